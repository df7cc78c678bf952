import { Alert, Checkbox, Code, NativeSelect, Stack, Table, Text } from '@mantine/core';
import { IconHelpCircle } from '@tabler/icons-react';
import type { ImportPreview } from '../../core/api/contract.ts';
import { Paged } from '../components/paged.tsx';
import { formatPlural } from '../format/format.ts';
import type { AnsweredPair, PairAnswer } from './import-answers.ts';

/** Pseudonyms that look alike: nothing is merged unless a person says so. */
export function LookAlikes({
  pairs,
  onAnswer,
}: {
  pairs: readonly AnsweredPair[];
  onAnswer: (pair: AnsweredPair, answer: PairAnswer | null) => void;
}) {
  const open = pairs.filter(({ answer }) => answer === null).length;
  return (
    <Alert
      color={open > 0 ? 'yellow' : 'gray'}
      icon={<IconHelpCircle aria-hidden />}
      title={
        open > 0
          ? `${formatPlural(open, 'pair')} of pseudonyms look alike: one subject, or two?`
          : 'Pseudonyms that look alike'
      }
    >
      <Paged rows={pairs} pageSize={10}>
        {(visible) => (
          <Table aria-label="Pseudonyms that look alike" withRowBorders={false} verticalSpacing={4}>
            <Table.Tbody>
              {visible.map((pair) => (
                <Table.Tr key={`${pair.first}\n${pair.second}`}>
                  <Table.Td>
                    <Pseudonym text={pair.first} isKnown={pair.firstKnown} /> and{' '}
                    <Pseudonym text={pair.second} isKnown={pair.secondKnown} />
                    <Text size="xs" c="dimmed">
                      differ by {pair.why}
                    </Text>
                  </Table.Td>
                  <Table.Td w={280}>
                    <NativeSelect
                      aria-label={`${pair.first} and ${pair.second}`}
                      data={[
                        { value: '', label: 'Not answered' },
                        { value: 'distinct', label: 'Two subjects' },
                        { value: 'first', label: `One subject: ${pair.first}` },
                        { value: 'second', label: `One subject: ${pair.second}` },
                      ]}
                      value={pair.answer ?? ''}
                      onChange={(event) =>
                        onAnswer(pair, (event.currentTarget.value || null) as PairAnswer | null)
                      }
                    />
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Paged>
    </Alert>
  );
}

function Pseudonym({ text, isKnown }: { text: string; isKnown: boolean }) {
  return (
    <>
      <Code>{text}</Code>
      {isKnown && (
        <Text span size="xs" c="dimmed">
          {' '}
          (here already)
        </Text>
      )}
    </>
  );
}

export function Warnings({
  warnings,
  accepted,
  onAccept,
}: {
  warnings: ImportPreview['warnings'];
  accepted: boolean;
  onAccept: (accepted: boolean) => void;
}) {
  return (
    <Alert color="yellow" title="Is this meant?">
      <Stack gap="xs">
        {warnings.map(({ kind, message, lines, count }) => (
          <Text key={kind} size="sm" style={{ overflowWrap: 'anywhere' }}>
            {message} Lines {lines.join(', ')}
            {count > lines.length ? ' …' : ''}
          </Text>
        ))}
        <Checkbox
          label="It is as it should be"
          checked={accepted}
          onChange={(event) => onAccept(event.currentTarget.checked)}
        />
      </Stack>
    </Alert>
  );
}
