import { Badge, Checkbox, Group, NativeSelect, SimpleGrid, Stack, Table, Text } from '@mantine/core';
import type { ImportPreview, TableRequest } from '../../core/api/contract.ts';
import { formatCount } from '../format/format.ts';

interface MappingProps {
  preview: ImportPreview;
  request: TableRequest;
  onChange: (request: TableRequest) => void;
}

type Field = ImportPreview['columns'][number]['field'];

/** In the order in which people think of them. */
const fieldWords: Partial<Record<Field, string>> = {
  file: 'File',
  subject: 'Pseudonym',
  label: 'Label',
  split: 'Training or held out',
  consent: 'Consent',
  consent_purpose: 'Purpose of the consent',
  consent_document: 'Consent form',
  consent_from: 'Consent from',
  consent_expires: 'Consent until',
};

const dateWords = [
  { value: 'iso', label: '2026-03-31' },
  { value: 'dd.mm.yyyy', label: '31.03.2026' },
  { value: 'dd/mm/yyyy', label: '31/03/2026 (day first)' },
  { value: 'mm/dd/yyyy', label: '03/31/2026 (month first)' },
  { value: 'excel', label: '46112 (day number of Excel)' },
];
const meanings = {
  consent: [
    { value: 'granted', label: 'granted' },
    { value: 'withdrawn', label: 'withdrawn' },
    { value: 'none', label: 'no consent' },
  ],
  split: [
    { value: 'train', label: 'for training' },
    { value: 'test', label: 'held out' },
  ],
} as const;

/** Which column is what, how dates are written, and what words mean. */
export function MappingSection({ preview, request, onChange }: MappingProps) {
  const isGuess =
    preview.columns.some(({ by }) => by === 'suggested') ||
    preview.words.some(({ needsConfirmation }) => needsConfirmation);
  return (
    <Stack gap="md">
      <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }} spacing="sm">
        {Object.entries(fieldWords).map(([field, label]) => (
          <ColumnSelect
            key={field}
            field={field as Field}
            label={label}
            {...{ preview, request, onChange }}
          />
        ))}
        <NativeSelect
          label="Dates are written as"
          data={dateWords}
          value={preview.dates}
          onChange={(event) =>
            onChange({ ...request, dates: event.currentTarget.value as NonNullable<TableRequest['dates']> })
          }
        />
        {preview.format.kind === 'text' && (
          <NativeSelect
            label="Text is encoded as"
            data={encodingWords(preview.format.encoding)}
            value={request.encoding ?? ''}
            onChange={(event) => {
              const { encoding: _, ...rest } = request;
              const chosen = event.currentTarget.value;
              onChange(
                chosen === '' ? rest : { ...rest, encoding: chosen as NonNullable<TableRequest['encoding']> },
              );
            }}
          />
        )}
      </SimpleGrid>
      {preview.words.length > 0 && <WordsTable {...{ preview, request, onChange }} />}
      {(isGuess || request.acceptMapping === true) && (
        <Checkbox
          label="What was guessed for columns and words is right"
          description="Anneal remembers it for the next table with these columns."
          checked={request.acceptMapping ?? false}
          onChange={(event) => onChange({ ...request, acceptMapping: event.currentTarget.checked })}
        />
      )}
    </Stack>
  );
}

export const encodingWords = (found: string | null) => [
  { value: '', label: found === null ? 'what the file says' : `what the file says (${found})` },
  { value: 'windows-1252', label: 'Windows-1252 (Excel in Western Europe)' },
  { value: 'windows-1250', label: 'Windows-1250 (Excel in Central Europe)' },
  { value: 'windows-1251', label: 'Windows-1251 (Cyrillic)' },
  { value: 'iso-8859-15', label: 'ISO 8859-15' },
  { value: 'macintosh', label: 'Mac OS Roman' },
];

function ColumnSelect({
  field,
  label,
  preview,
  request,
  onChange,
}: MappingProps & { field: Field; label: string }) {
  const choice = preview.columns.find((one) => one.field === field);
  const isRequired = preview.required.includes(field);
  const choose = (column: string) =>
    onChange({ ...request, map: { ...request.map, [field]: column === '' ? null : column } });
  const names = [...new Set(preview.header.filter((name) => name !== ''))];
  return (
    <NativeSelect
      label={
        <Group gap={6} component="span">
          {label}
          {choice?.by === 'suggested' && (
            <Badge size="xs" color="yellow" variant="light">
              guessed
            </Badge>
          )}
          {choice?.by === 'remembered' && (
            <Badge size="xs" color="gray" variant="light">
              remembered
            </Badge>
          )}
        </Group>
      }
      aria-label={`Column for ${label}`}
      data={[{ value: '', label: isRequired ? 'Choose a column…' : 'no column' }, ...names]}
      value={choice?.column ?? ''}
      error={isRequired && preview.missing.includes(field) ? 'This column is needed.' : undefined}
      onChange={(event) => choose(event.currentTarget.value)}
    />
  );
}

function WordsTable({ preview, request, onChange }: MappingProps) {
  const say = (field: 'consent' | 'split', word: string, meaning: string) =>
    onChange({
      ...request,
      values: {
        ...request.values,
        [field]: { ...request.values?.[field], ...(meaning !== '' && { [word]: meaning }) },
      },
    });
  return (
    <Table aria-label="Words of the table" withRowBorders={false} verticalSpacing={4} maw={560}>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Word</Table.Th>
          <Table.Th>Means</Table.Th>
          <Table.Th ta="right">Rows</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {preview.words.slice(0, 30).map(({ field, word, meaning, needsConfirmation, rows }) => (
          <Table.Tr key={`${field} ${word}`}>
            <Table.Td style={{ overflowWrap: 'anywhere' }}>{word}</Table.Td>
            <Table.Td>
              <Group gap="xs" wrap="nowrap">
                <NativeSelect
                  size="xs"
                  aria-label={`Meaning of ${word}`}
                  data={[{ value: '', label: 'unknown: choose…' }, ...meanings[field]]}
                  value={meaning ?? ''}
                  error={meaning === null}
                  onChange={(event) => say(field, word, event.currentTarget.value)}
                />
                {needsConfirmation && request.acceptMapping !== true && (
                  <Badge size="xs" color="yellow" variant="light">
                    guessed
                  </Badge>
                )}
              </Group>
            </Table.Td>
            <Table.Td ta="right" className="numbers">
              <Text size="sm">{formatCount(rows)}</Text>
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
