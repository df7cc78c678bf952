import { Box, SimpleGrid, Table } from '@mantine/core';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { Disclosure } from '../components/disclosure.tsx';
import { Figure } from '../components/figure.tsx';
import { Paged } from '../components/paged.tsx';
import { formatBytes, formatCount, formatPlural } from '../format/format.ts';
import { leavingWords } from '../format/words.ts';
import { LetterPart, Sentences } from './letter-part.tsx';

const range = (first: string, last: string) => (first === last ? first : `${first} → ${last}`);

const roundsOf = ({ from, to }: ApprovalCard['leavingRounds'][number]) =>
  from === to ? formatCount(from + 1) : `${formatCount(from + 1)}–${formatCount(to + 1)}`;

/** What leaves this site, in words and in numbers. */
export function LetterLeaving({ card }: { card: ApprovalCard }) {
  const { bytesPerRound, rank, leavingRounds, leavingTensors } = card;
  return (
    <LetterPart title="What leaves this site">
      <Sentences entries={card.leaves} />
      <SimpleGrid cols={{ base: 2, md: 4 }} my="md">
        <Figure
          small
          label="Sent per round"
          value={range(formatBytes(bytesPerRound.first), formatBytes(bytesPerRound.last))}
          hint="first → last round, at most"
        />
        <Figure
          small
          label="Rank"
          value={range(String(rank.first), String(rank.last))}
          hint="size of the adapter"
        />
        <Figure small label="Rounds" value={formatCount(card.rounds)} hint="you can pause at any time" />
        <Figure small label="In the whole run" value={formatBytes(card.bytes)} hint="at most" />
      </SimpleGrid>
      <Disclosure label="What leaves in each round">{() => <RoundsTable rows={leavingRounds} />}</Disclosure>
      <Box mt={4}>
        <Disclosure label={`${formatPlural(leavingTensors.length, 'table')} of numbers by name`}>
          {() => <TensorsTable tensors={leavingTensors} />}
        </Disclosure>
      </Box>
    </LetterPart>
  );
}

function RoundsTable({ rows }: { rows: ApprovalCard['leavingRounds'] }) {
  return (
    <Paged rows={rows} pageSize={20}>
      {(visible) => (
        <Table.ScrollContainer minWidth={520} type="native">
          <Table aria-label="What leaves in each round">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Rounds</Table.Th>
                <Table.Th>What</Table.Th>
                <Table.Th ta="right">Rank</Table.Th>
                <Table.Th ta="right">Tables</Table.Th>
                <Table.Th ta="right">Numbers</Table.Th>
                <Table.Th ta="right">Size, at most</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody className="numbers">
              {visible.map((row) => (
                <Table.Tr key={row.from}>
                  <Table.Td>{roundsOf(row)}</Table.Td>
                  <Table.Td>{leavingWords(row)}</Table.Td>
                  <Table.Td ta="right">{row.rank === 0 ? '–' : formatCount(row.rank)}</Table.Td>
                  <Table.Td ta="right">{formatCount(row.tensors)}</Table.Td>
                  <Table.Td ta="right">{formatCount(row.values)}</Table.Td>
                  <Table.Td ta="right">{formatBytes(row.bytes)}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
    </Paged>
  );
}

function TensorsTable({ tensors }: { tensors: ApprovalCard['leavingTensors'] }) {
  return (
    <Paged rows={tensors} pageSize={20}>
      {(visible) => (
        <Table aria-label="Tables of numbers by name" verticalSpacing={4}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Name</Table.Th>
              <Table.Th ta="right" w={160}>
                Shape, at most
              </Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {visible.map(({ name, dims }) => (
              <Table.Tr key={name}>
                <Table.Td className="code">{name}</Table.Td>
                <Table.Td ta="right" className="numbers">
                  {dims.length === 0 ? 'one number' : dims.map(formatCount).join(' × ')}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </Paged>
  );
}
