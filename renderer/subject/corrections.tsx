import { Table, Text } from '@mantine/core';
import type { SubjectCorrection } from '../../core/api/subject-contract.ts';
import { correctionReasons } from '../../core/config/correction.ts';
import { Section } from '../components/page.tsx';
import { Paged } from '../components/paged.tsx';
import { formatDateTime, formatPlural } from '../format/format.ts';

const sides = { train: 'for training', test: 'held out' } as const;

/** What was corrected, by whom and why. */
export function CorrectionsSection({ corrections }: { corrections: readonly SubjectCorrection[] }) {
  return (
    <Section
      title="Corrections"
      description="The audit trail keeps that there was a correction; what it said goes when the subject is erased."
    >
      <Paged rows={corrections} pageSize={10}>
        {(visible) => (
          <Table.ScrollContainer minWidth={560} type="native">
            <Table aria-label="Corrections">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>When</Table.Th>
                  <Table.Th>By</Table.Th>
                  <Table.Th>What</Table.Th>
                  <Table.Th>Why</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {visible.map((row) => (
                  <Table.Tr key={`${row.correctedAt}-${whatOf(row)}`}>
                    <Table.Td className="numbers">{formatDateTime(row.correctedAt)}</Table.Td>
                    <Table.Td>{row.correctedBy}</Table.Td>
                    <Table.Td>{whatOf(row)}</Table.Td>
                    <Table.Td>
                      <Text size="sm">{reasonWords(row.reason)}</Text>
                      {row.note !== null && (
                        <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                          {row.note}
                        </Text>
                      )}
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        )}
      </Paged>
    </Section>
  );
}

function whatOf({ images, label, subject, split }: SubjectCorrection): string {
  const parts = [
    label && `label ${label.from.join(', ')} → ${label.to}`,
    subject && `subject ${subject.from.join(', ')} → ${subject.to}`,
    split && `${split.from.map((side) => sides[side]).join(', ')} → ${sides[split.to]}`,
  ].filter((part) => part !== null);
  return `${formatPlural(images, 'image')}: ${parts.join('; ')}`;
}

/** A reason of a later version is shown as it is. */
const reasonWords = (reason: string): string =>
  Object.entries(correctionReasons).find(([name]) => name === reason)?.[1] ?? reason;
