import {
  Alert,
  Button,
  Card,
  Checkbox,
  Code,
  Collapse,
  Group,
  SimpleGrid,
  Stack,
  Table,
  Text,
} from '@mantine/core';
import { useForm } from '@mantine/form';
import { useDisclosure } from '@mantine/hooks';
import { IconCircleCheck, IconFolderPlus } from '@tabler/icons-react';
import type { ImportReport } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { desktopBridge } from '../api/bridge.ts';
import { api } from '../api/client.ts';
import { recordImport, useLiveProgress } from '../api/live-progress.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Figure } from '../components/figure.tsx';
import { Section } from '../components/page.tsx';
import { Paged } from '../components/paged.tsx';
import { PathField } from '../components/path-field.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { StepBar } from '../components/step-bar.tsx';
import { formatCount, formatPlural } from '../format/format.ts';
import { DuplicatesTable } from './dataset-quality.tsx';

/** Adds a folder of photographs with its CSV. */
export function ImportPanel({ onShow }: { onShow: (tab: 'set-aside' | 'quality') => void }) {
  const form = useForm({
    initialValues: { imagesFolder: '', labelsFile: '', alreadyCropped: false },
    validate: {
      imagesFolder: (path) => (path.trim() === '' ? 'Give the folder that holds the photographs.' : null),
      labelsFile: (path) => (path.trim() === '' ? 'Give the CSV file that describes the photographs.' : null),
    },
  });
  const run = useAction(
    (values: typeof form.values) =>
      api.site.import.mutate({
        ...values,
        imagesFolder: values.imagesFolder.trim(),
        labelsFile: values.labelsFile.trim(),
      }),
    { changes: ['dataset', 'site', 'audit'], ownErrors: true },
  );
  const start = (values: typeof form.values) => {
    recordImport(null);
    run.mutate(values);
  };
  const pathProps = (field: 'imagesFolder' | 'labelsFile') => ({
    value: form.values[field],
    onChange: (path: string) => form.setFieldValue(field, path),
    error: typeof form.errors[field] === 'string' ? form.errors[field] : undefined,
  });
  const where = desktopBridge() ? undefined : 'A path on the machine where Anneal runs.';
  return (
    <Stack gap="lg">
      <Section
        title="Add images"
        description="Anneal reads the photographs where they are and keeps small face crops in its data folder. Neither leaves this machine."
      >
        <form noValidate onSubmit={form.onSubmit(start)}>
          <Stack>
            <PathField
              label="Folder of photographs"
              placeholder="/data/photos"
              choose="folder"
              {...(where && { description: where })}
              {...pathProps('imagesFolder')}
            />
            <PathField
              label="CSV file"
              placeholder="/data/labels.csv"
              choose={[{ name: 'CSV', extensions: ['csv'] }]}
              {...pathProps('labelsFile')}
            />
            <Checkbox
              label="The images are already cropped to one face"
              description="Anneal then skips face detection."
              {...form.getInputProps('alreadyCropped', { type: 'checkbox' })}
            />
            <Group justify="space-between">
              <CsvHelp />
              <RoleButton
                needs={['data-manager']}
                type="submit"
                loading={run.isPending}
                leftSection={<IconFolderPlus size={16} aria-hidden />}
              >
                Add images
              </RoleButton>
            </Group>
          </Stack>
        </form>
        {run.isPending && <ImportProgressBar />}
      </Section>
      {run.isError && <ErrorPanel error={run.error} />}
      {run.data && !run.isPending && <ReportCard report={run.data} onShow={onShow} />}
    </Stack>
  );
}

function ImportProgressBar() {
  const progress = useLiveProgress().import;
  return (
    <Stack mt="lg" gap={6} role="status">
      {progress ? (
        <StepBar label="Images" step={progress.done} steps={progress.total} />
      ) : (
        <Text size="sm" c="dimmed">
          Reading the CSV file…
        </Text>
      )}
    </Stack>
  );
}

function CsvHelp() {
  const [opened, { toggle }] = useDisclosure(false);
  return (
    <div>
      <Button variant="subtle" size="compact-sm" onClick={toggle} aria-expanded={opened}>
        What goes into the CSV file?
      </Button>
      <Collapse expanded={opened}>
        <Stack gap="xs" mt="xs" maw={640}>
          <Text size="sm">
            One line per image, after a first line with the column names. <Code>file</Code>,{' '}
            <Code>subject</Code> (a pseudonym, never a name) and <Code>label</Code> are needed. Consent comes
            from <Code>consent</Code> (granted, withdrawn or none), <Code>consent_document</Code>,{' '}
            <Code>consent_from</Code> and <Code>consent_expires</Code>, or is recorded later by hand.
          </Text>
          <Code block>
            {'file,subject,label,consent,consent_document,consent_from,consent_expires\n' +
              'p0001-a.jpg,P0001,unaffected,granted,v2.1,2026-01-15,2031-01-15'}
          </Code>
        </Stack>
      </Collapse>
    </div>
  );
}

interface ReportCardProps {
  report: ImportReport;
  onShow: (tab: 'set-aside' | 'quality') => void;
}

function ReportCard({ report, onShow }: ReportCardProps) {
  const labels = Object.entries(report.byLabel);
  return (
    <Card component="section" aria-label="Import report">
      <Stack>
        <Alert color="green" icon={<IconCircleCheck aria-hidden />} role="status">
          {report.imported > 0
            ? `${formatPlural(report.imported, 'image')} added.`
            : 'No new image was added.'}
        </Alert>
        <SimpleGrid cols={4}>
          <Figure label="Added" value={formatCount(report.imported)} />
          <Figure label="Set aside" value={formatCount(report.setAside.length)} />
          <Figure label="Already there" value={formatCount(report.alreadyThere)} />
          <Figure
            label="Without consent"
            value={formatCount(report.withoutConsent)}
            hint="not used until recorded"
          />
        </SimpleGrid>
        {labels.length > 0 && (
          <Paged rows={labels} pageSize={12}>
            {(visible) => <LabelsTable labels={visible} />}
          </Paged>
        )}
        {report.withoutConsent > 0 && (
          <Text size="sm" c="dimmed">
            Images without consent are kept but never used. Record the consents under “Subjects”, or add the
            consent columns to the CSV file and import it again: images that are already there are skipped.
          </Text>
        )}
        {report.stillWithdrawn.length > 0 && (
          <Text size="sm" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
            Withdrawn, and still withdrawn, because the consent in the CSV file is older or has no date:{' '}
            {report.stillWithdrawn.join(', ')}.
          </Text>
        )}
        {report.duplicates.length > 0 && (
          <Stack gap="xs">
            <Text fw={600}>Pictures that are nearly the same</Text>
            <DuplicatesTable duplicates={report.duplicates} />
          </Stack>
        )}
        <Group>
          {report.setAside.length > 0 && (
            <Button variant="default" onClick={() => onShow('set-aside')}>
              See what was set aside and why
            </Button>
          )}
          {report.quality.length > 0 && (
            <Button variant="default" onClick={() => onShow('quality')}>
              See the quality of the faces
            </Button>
          )}
        </Group>
      </Stack>
    </Card>
  );
}

function LabelsTable({ labels }: { labels: readonly [string, { train: number; test: number }][] }) {
  return (
    <Table aria-label="Added images by label">
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Label</Table.Th>
          <Table.Th ta="right">For training</Table.Th>
          <Table.Th ta="right">Held out for checking</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody className="numbers">
        {labels.map(([label, counts]) => (
          <Table.Tr key={label}>
            <Table.Td>{label}</Table.Td>
            <Table.Td ta="right">{formatCount(counts.train)}</Table.Td>
            <Table.Td ta="right">{formatCount(counts.test)}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
