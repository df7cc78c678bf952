import { Box, Table, Text } from '@mantine/core';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { Paged } from '../components/paged.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import { formatCount, formatPlural } from '../format/format.ts';
import type { StatusWord } from '../format/words.ts';
import { LetterPart } from './letter-part.tsx';

type ClassRow = ApprovalCard['classes'][number];

/** "65 of your 90 images, 18 of your 20 subjects", and the same by class. */
export function LetterData({ card: { images, subjects, classes, policyVersion } }: { card: ApprovalCard }) {
  return (
    <LetterPart title="Your data">
      <Text>
        <b>
          {formatCount(images.used)} of your {formatPlural(images.all, 'training image')} and{' '}
          {formatCount(subjects.used)} of your {formatPlural(subjects.all, 'subject')}
        </b>{' '}
        would train, as things are now.
        {images.heldOut > 0 &&
          ` On ${formatPlural(images.heldOut, 'more image', 'more images')} the shared model is only tested.`}
      </Text>
      <Box mt="xs">
        <Paged rows={classes} pageSize={12}>
          {(visible) => <ClassesTable rows={visible} />}
        </Paged>
      </Box>
      {classes.some(isTooSmall) && (
        <Text size="xs" c="dimmed" mt={6}>
          Version {policyVersion} of your policy lets no class train that has so few subjects here.
        </Text>
      )}
    </LetterPart>
  );
}

function ClassesTable({ rows }: { rows: readonly ClassRow[] }) {
  return (
    <Table.ScrollContainer minWidth={540} type="native">
      <Table aria-label="Classes of the run" layout="fixed" horizontalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Class</Table.Th>
            <Table.Th ta="right" w={76}>
              Images
            </Table.Th>
            <Table.Th ta="right" w={86}>
              Subjects
            </Table.Th>
            <Table.Th ta="right" w={86}>
              Held out
            </Table.Th>
            <Table.Th w={165}>Trains here</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => (
            <Table.Tr key={row.label}>
              <Table.Td style={{ overflowWrap: 'anywhere' }}>{row.label}</Table.Td>
              <Table.Td ta="right" className="numbers">
                {formatCount(row.images)}
              </Table.Td>
              <Table.Td ta="right" className="numbers">
                {formatCount(row.subjects)}
              </Table.Td>
              <Table.Td ta="right" className="numbers">
                {formatCount(row.heldOut)}
              </Table.Td>
              <Table.Td>
                <StatusBadge word={trainingWord(row)} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

const isTooSmall = ({ images, trains }: ClassRow) => images > 0 && !trains;

function trainingWord(row: ClassRow): StatusWord {
  if (row.trains) return { label: 'Yes', color: 'green' };
  return isTooSmall(row)
    ? { label: 'Too few subjects', color: 'yellow' }
    : { label: 'None consented', color: 'gray' };
}
