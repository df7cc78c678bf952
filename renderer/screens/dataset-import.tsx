import {
  Alert,
  Button,
  Card,
  Checkbox,
  Code,
  Collapse,
  Group,
  NativeSelect,
  SimpleGrid,
  Stack,
  Table,
  Text,
} from '@mantine/core';
import { useForm } from '@mantine/form';
import { useDisclosure } from '@mantine/hooks';
import { IconCircleCheck, IconEye } from '@tabler/icons-react';
import { useState } from 'react';
import type { ImportReport, TableRequest } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { toReport } from '../api/errors.ts';
import { recordImport, useLiveProgress } from '../api/live-progress.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Figure } from '../components/figure.tsx';
import { Section } from '../components/page.tsx';
import { Paged } from '../components/paged.tsx';
import { PathField } from '../components/path-field.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { StepBar } from '../components/step-bar.tsx';
import { ConsentLists, Names } from '../components/subject-names.tsx';
import { formatCount, formatPlural } from '../format/format.ts';
import { DuplicatesTable } from './dataset-quality.tsx';
import { type AnsweredPair, answerPair, answersOf, mergePairs } from './import-answers.ts';
import { encodingWords } from './import-mapping.tsx';
import { PreviewPanel } from './import-preview.tsx';

interface Paths {
  imagesFolder: string;
  labelsFile: string;
  alreadyCropped: boolean;
}

const trimmed = ({ imagesFolder, labelsFile }: Paths) => ({
  imagesFolder: imagesFolder.trim(),
  labelsFile: labelsFile.trim(),
});

const asked = (request: TableRequest, pairs: readonly AnsweredPair[]): TableRequest => ({
  ...request,
  ...answersOf(pairs),
});

/** Adds a folder of photographs with its table: first a look at it, then the import. */
export function ImportPanel({ onShow }: { onShow: (tab: 'set-aside' | 'quality') => void }) {
  const form = useForm<Paths>({
    initialValues: { imagesFolder: '', labelsFile: '', alreadyCropped: false },
    validate: {
      imagesFolder: (path) => (path.trim() === '' ? 'Give the folder that holds the photographs.' : null),
      labelsFile: (path) => (path.trim() === '' ? 'Give the table that describes the photographs.' : null),
    },
    // Another file, other answers.
    onValuesChange: ({ imagesFolder, labelsFile }, before) => {
      if (imagesFolder !== before.imagesFolder || labelsFile !== before.labelsFile) forget();
    },
  });
  const [request, setRequest] = useState<TableRequest>({});
  const [pairs, setPairs] = useState<readonly AnsweredPair[]>([]);
  const look = useAction(
    ({ paths, table }: { paths: Paths; table: TableRequest }) =>
      api.site.previewImport.mutate({ ...trimmed(paths), table }),
    {
      changes: [],
      ownErrors: true,
      onSuccess: ({ questions }) => setPairs((seen) => mergePairs(seen, questions)),
    },
  );
  const run = useAction(
    (paths: Paths) =>
      api.site.import.mutate({
        ...trimmed(paths),
        alreadyCropped: paths.alreadyCropped,
        table: asked(request, pairs),
      }),
    { changes: ['dataset', 'site', 'audit'], ownErrors: true, onSuccess: () => look.reset() },
  );
  function forget(): void {
    look.reset();
    run.reset();
    setRequest({});
    setPairs([]);
  }
  const ask = (table: TableRequest, answered = pairs) => {
    setRequest(table);
    setPairs(answered);
    run.reset();
    look.mutate({ paths: form.values, table: asked(table, answered) });
  };
  const pathProps = (field: 'imagesFolder' | 'labelsFile') => ({
    value: form.values[field],
    onChange: (path: string) => form.setFieldValue(field, path),
    error: form.errors[field],
  });
  // Kept in sight while it is asked for again.
  const preview = useLast(look.data, look.isIdle);
  return (
    <Stack gap="lg">
      <Section
        title="Add images"
        description="Anneal reads the photographs where they are and keeps small face crops in its data folder. Neither leaves this machine."
      >
        <form noValidate onSubmit={form.onSubmit(() => ask(request))}>
          <Stack>
            <PathField
              label="Folder of photographs"
              placeholder="/data/photos"
              choose="folder"
              {...pathProps('imagesFolder')}
            />
            <PathField
              label="Table (CSV or Excel)"
              placeholder="/data/labels.csv"
              choose={[{ name: 'CSV or Excel', extensions: ['csv', 'tsv', 'txt', 'xlsx'] }]}
              {...pathProps('labelsFile')}
            />
            <Checkbox
              label="The images are already cropped to one face"
              description="Anneal then skips face detection."
              {...form.getInputProps('alreadyCropped', { type: 'checkbox' })}
            />
            <Group justify="space-between">
              <TableHelp />
              <RoleButton
                needs={['data-manager']}
                type="submit"
                variant={preview ? 'default' : 'filled'}
                loading={look.isPending && !preview}
                leftSection={<IconEye size={16} aria-hidden />}
              >
                Preview
              </RoleButton>
            </Group>
          </Stack>
        </form>
        {run.isPending && <ImportProgressBar />}
      </Section>
      {look.isError && (
        <>
          <ErrorPanel error={look.error} />
          {toReport(look.error).message.includes('the text is not') && (
            <Group>
              <NativeSelect
                label="Text is encoded as"
                data={encodingWords(null)}
                value={request.encoding ?? ''}
                onChange={(event) =>
                  ask({
                    ...request,
                    encoding: event.currentTarget.value as NonNullable<TableRequest['encoding']>,
                  })
                }
              />
            </Group>
          )}
        </>
      )}
      {preview && (
        <PreviewPanel
          {...{ preview, request, pairs }}
          onChange={ask}
          onAnswer={(pair, answer) => ask(request, answerPair(pairs, pair, answer))}
          onImport={() => {
            recordImport(null);
            // Withdrawals may be recorded although the rest was not.
            run.mutate(form.values, {
              onError: () => look.mutate({ paths: form.values, table: asked(request, pairs) }),
            });
          }}
          isWorking={look.isPending}
          isImporting={run.isPending}
        />
      )}
      {run.isError && <ErrorPanel error={run.error} />}
      {run.data && !run.isPending && <ReportCard report={run.data} onShow={onShow} />}
    </Stack>
  );
}

/** The newest value, also while the next one is not there yet; nothing once it is forgotten. */
function useLast<T>(value: T | undefined, isForgotten: boolean): T | undefined {
  const [last, setLast] = useState(value);
  if (value !== undefined && value !== last) setLast(value);
  if (isForgotten && last !== undefined) setLast(undefined);
  return isForgotten ? undefined : (value ?? last);
}

function ImportProgressBar() {
  const progress = useLiveProgress().import;
  return (
    <Stack mt="lg" gap={6} role="status">
      {progress ? (
        <StepBar label="Images" step={progress.done} steps={progress.total} />
      ) : (
        <Text size="sm" c="dimmed">
          Reading the table…
        </Text>
      )}
    </Stack>
  );
}

function TableHelp() {
  const [opened, { toggle }] = useDisclosure(false);
  return (
    <div>
      <Button variant="subtle" size="compact-sm" onClick={toggle} aria-expanded={opened}>
        What goes into the table?
      </Button>
      <Collapse expanded={opened}>
        <Stack gap="xs" mt="xs" maw={640}>
          <Text size="sm">
            One line per image, after a first line with the column names. <Code>file</Code>,{' '}
            <Code>subject</Code> (a pseudonym, never a name) and <Code>label</Code> are needed. Consent comes
            from <Code>consent</Code> (granted, withdrawn or none), <Code>consent_document</Code>,{' '}
            <Code>consent_from</Code> and <Code>consent_expires</Code>, or is recorded later by hand. Other
            names of columns, and other words, are matched in the preview.
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
            consent columns to the table and import it again: images that are already there are skipped.
          </Text>
        )}
        <Names title="Withdrawn now, by this table" names={report.withdrawn} />
        <ConsentLists report={report} />
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
