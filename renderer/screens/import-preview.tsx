import { Alert, Badge, Button, Group, Image, SimpleGrid, Stack, Table, Text } from '@mantine/core';
import { IconFolderPlus, IconPhotoOff } from '@tabler/icons-react';
import type { ReactNode } from 'react';
import type { ImportPreview, PreviewRow, TableRequest } from '../../core/api/contract.ts';
import { base64Of } from '../api/base64.ts';
import { saveFile } from '../api/save-file.ts';
import { ReportPanel } from '../components/error-panel.tsx';
import { Figure } from '../components/figure.tsx';
import { Section } from '../components/page.tsx';
import { Paged } from '../components/paged.tsx';
import { formatCount, formatPlural } from '../format/format.ts';
import type { AnsweredPair, PairAnswer } from './import-answers.ts';
import { MappingSection } from './import-mapping.tsx';
import { LookAlikes, Warnings } from './import-questions.tsx';

interface PreviewProps {
  preview: ImportPreview;
  request: TableRequest;
  pairs: readonly AnsweredPair[];
  /** Asks again. */
  onChange: (request: TableRequest) => void;
  onAnswer: (pair: AnsweredPair, answer: PairAnswer | null) => void;
  onImport: () => void;
  isWorking: boolean;
  isImporting: boolean;
}

/** What an import would do. Nothing is recorded before a person says so. */
export function PreviewPanel(props: PreviewProps) {
  const { preview, request, pairs, onChange, isWorking, isImporting, onImport } = props;
  const { blocked, clearWithdrawals } = preview;
  return (
    <Section
      title={`What ${preview.name} says`}
      description={`${formatPlural(preview.rowCount, 'row')} below the column names; ${formatCount(preview.goodRows)} without a problem. Nothing is recorded yet.`}
    >
      <Stack gap="lg" aria-busy={isWorking}>
        {preview.notes.map((note) => (
          <Text key={note} size="sm" c="dimmed">
            {note}
          </Text>
        ))}
        <MappingSection {...{ preview, request, onChange }} />
        {pairs.length > 0 && <LookAlikes pairs={pairs} onAnswer={props.onAnswer} />}
        {preview.warnings.length > 0 && (
          <Warnings
            warnings={preview.warnings}
            accepted={request.acceptWarnings ?? false}
            onAccept={(acceptWarnings) => onChange({ ...request, acceptWarnings })}
          />
        )}
        {preview.problemCount > 0 && <Problems preview={preview} />}
        {preview.contradictions.length > 0 && (
          <Alert
            color="yellow"
            title="Granted in one line and withdrawn in another: these subjects have withdrawn"
          >
            {preview.contradictions
              .map(({ subject, lines }) => `${subject} (lines ${lines.join(', ')})`)
              .join('; ')}
          </Alert>
        )}
        <Counts preview={preview} />
        {preview.thumbnails.length > 0 && <Thumbnails thumbnails={preview.thumbnails} />}
        {preview.rows.length > 0 && <FirstRows rows={preview.rows} />}
        {blocked !== null && <ReportPanel report={blocked} />}
        <Group justify="flex-end">
          {blocked !== null && clearWithdrawals > 0 && (
            <Button variant="default" loading={isImporting} onClick={onImport}>
              Record {formatPlural(clearWithdrawals, 'withdrawal')} now
            </Button>
          )}
          <Button
            disabled={blocked !== null || isWorking}
            loading={isImporting}
            leftSection={<IconFolderPlus size={16} aria-hidden />}
            onClick={onImport}
          >
            Add images
          </Button>
        </Group>
      </Stack>
    </Section>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Stack gap="xs">
      <Text fw={600} size="sm">
        {title}
      </Text>
      {children}
    </Stack>
  );
}

function Counts({ preview }: { preview: ImportPreview }) {
  const { subjects, consents } = preview;
  const images = Object.values(preview.byLabel).reduce(
    (sum, { train, test, open }) => sum + train + test + open,
    0,
  );
  return (
    <SimpleGrid cols={{ base: 2, sm: 4 }}>
      <Figure label="Images" value={formatCount(images)} hint={Object.keys(preview.byLabel).join(', ')} />
      <Figure
        label="New subjects"
        value={formatCount(subjects.new)}
        hint={`${formatCount(subjects.known)} known`}
      />
      <Figure
        label="New consents"
        value={formatCount(consents.granted + consents.reconsented)}
        hint={`${formatCount(consents.known)} known already`}
      />
      <Figure
        label="Withdrawals"
        value={formatCount(consents.withdrawn)}
        {...(consents.stillWithdrawn > 0 && {
          hint: `${formatCount(consents.stillWithdrawn)} more stay withdrawn`,
        })}
      />
    </SimpleGrid>
  );
}

function Problems({ preview }: { preview: ImportPreview }) {
  const { problems, problemCount, problemsCsv } = preview;
  return (
    <Part title={`${formatPlural(problemCount, 'problem')} in the table`}>
      <Paged rows={problems} pageSize={10}>
        {(visible) => (
          <Table aria-label="Problems" verticalSpacing={4}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Line</Table.Th>
                <Table.Th>Column</Table.Th>
                <Table.Th>Problem</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {visible.map(({ line, column, message, blocks }, index) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: a line may have several problems of one kind
                <Table.Tr key={`${line} ${index}`}>
                  <Table.Td className="numbers">{line}</Table.Td>
                  <Table.Td>{column ?? ''}</Table.Td>
                  <Table.Td style={{ overflowWrap: 'anywhere' }}>
                    {message}{' '}
                    {!blocks && (
                      <Badge size="xs" color="gray" variant="light">
                        will be left out
                      </Badge>
                    )}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Paged>
      <Group>
        {problemsCsv !== null && (
          <Button
            size="xs"
            variant="default"
            onClick={() =>
              saveFile({
                name: `problems of ${preview.name.replace(/\.\w+$/, '')}.csv`,
                ...{ mediaType: 'text/csv', base64: base64Of(problemsCsv) },
              })
            }
          >
            Save all problems as CSV
          </Button>
        )}
      </Group>
    </Part>
  );
}

function Thumbnails({ thumbnails }: { thumbnails: ImportPreview['thumbnails'] }) {
  return (
    <Part title="The first images">
      <Group gap="sm" align="flex-start">
        {thumbnails.map(({ line, file, picture, reason }) => (
          <Stack key={line} gap={2} w={104}>
            {picture === null ? (
              <Stack h={96} align="center" justify="center" title={reason ?? ''} c="dimmed">
                <IconPhotoOff aria-hidden />
              </Stack>
            ) : (
              <Image src={picture} alt={`Line ${line}: ${file}`} h={96} w={96} fit="contain" radius="sm" />
            )}
            <Text size="xs" c="dimmed" truncate title={file}>
              {file}
            </Text>
            {reason !== null && (
              <Text size="xs" style={{ overflowWrap: 'anywhere' }}>
                {reason}
              </Text>
            )}
          </Stack>
        ))}
      </Group>
    </Part>
  );
}

function FirstRows({ rows }: { rows: readonly PreviewRow[] }) {
  return (
    <Part title="The first rows, as they are understood">
      <Table.ScrollContainer minWidth={640}>
        <Table aria-label="First rows" verticalSpacing={4}>
          <Table.Thead>
            <Table.Tr>
              {['Line', 'File', 'Pseudonym', 'Label', 'Split', 'Consent', 'From', 'Until', 'Form'].map(
                (name) => (
                  <Table.Th key={name}>{name}</Table.Th>
                ),
              )}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {rows.slice(0, 10).map(({ line, file, subject, label, split, consent }) => (
              <Table.Tr key={`${line} ${subject}`}>
                <Table.Td className="numbers">{line}</Table.Td>
                <Table.Td>{file ?? ''}</Table.Td>
                <Table.Td>{subject}</Table.Td>
                <Table.Td>{label ?? ''}</Table.Td>
                <Table.Td>{split ?? ''}</Table.Td>
                <Table.Td>{consent?.kind ?? ''}</Table.Td>
                <Table.Td className="numbers">{consent?.validFrom ?? ''}</Table.Td>
                <Table.Td className="numbers">{consent?.expiresAt ?? ''}</Table.Td>
                <Table.Td>{consent?.documentVersion ?? ''}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Part>
  );
}
