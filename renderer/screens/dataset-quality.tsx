import { Badge, Card, Group, NativeSelect, Stack, Table, Text } from '@mantine/core';
import { IconPhotoSearch } from '@tabler/icons-react';
import { useState } from 'react';
import type { DuplicateQuestion, ImageQuality, QualityRow } from '../../core/api/contract.ts';
import { useImageQuality } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Section } from '../components/page.tsx';
import { Paged } from '../components/paged.tsx';
import { SubjectLink } from '../components/subject-link.tsx';
import { formatPlural } from '../format/format.ts';
import { duplicateWords } from '../format/image-words.ts';

/** What was measured of the images, and pairs that a person should look at. */
export function QualityPanel() {
  const images = useImageQuality();
  return (
    <Loaded query={images}>
      {({ quality, duplicates }) =>
        quality.length === 0 ? (
          <Card>
            <EmptyState icon={IconPhotoSearch} title="Nothing measured yet">
              Size, sharpness, light and pose of the face are measured when images are added.
            </EmptyState>
          </Card>
        ) : (
          <Stack gap="lg">
            {duplicates.length > 0 && (
              <Section
                title="Pictures that are nearly the same"
                description="Anneal changes nothing here by itself."
              >
                <DuplicatesTable duplicates={duplicates} />
              </Section>
            )}
            <Section
              title="Quality of the faces"
              description="Limits are part of the site policy and hold for images that are added from now on."
            >
              <QualityTable rows={quality} />
            </Section>
          </Stack>
        )
      }
    </Loaded>
  );
}

export function DuplicatesTable({ duplicates }: { duplicates: readonly DuplicateQuestion[] }) {
  return (
    <Paged rows={duplicates} pageSize={20}>
      {(visible) => (
        <Table aria-label="Pictures that are nearly the same">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Pictures</Table.Th>
              <Table.Th>Subjects</Table.Th>
              <Table.Th>What to decide</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {visible.map(({ kind, images: [a, b] }) => (
              <Table.Tr key={`${a.id}/${b.id}`}>
                <Table.Td className="code">
                  {a.sourceName}
                  <br />
                  {b.sourceName}
                </Table.Td>
                <Table.Td>
                  <SubjectLink pseudonym={a.pseudonym} />
                  {a.pseudonym !== b.pseudonym && (
                    <>
                      {', '}
                      <SubjectLink pseudonym={b.pseudonym} />
                    </>
                  )}
                </Table.Td>
                <Table.Td>
                  <Badge variant="light" color={kind === 'same-split' ? 'gray' : 'yellow'} mr="xs">
                    {duplicateWords[kind].label}
                  </Badge>
                  {duplicateWords[kind].question}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </Paged>
  );
}

/** What a list may begin with; what was not measured comes last. */
const orders = {
  'As imported': null,
  'Smallest faces first': ({ facePixels }: ImageQuality) => facePixels,
  'Most blurred first': ({ sharpness }: ImageQuality) => sharpness,
  'Darkest first': ({ brightness }: ImageQuality) => brightness,
  'Brightest first': ({ brightness }: ImageQuality) => -brightness,
  'Most turned aside first': ({ yaw }: ImageQuality) => (yaw === null ? 1 : -Math.abs(yaw)),
  'Most tilted first': ({ roll }: ImageQuality) => (roll === null ? 1 : -Math.abs(roll)),
} as const satisfies Record<string, ((quality: ImageQuality) => number) | null>;
type Order = keyof typeof orders;

type Shown = QualityRow['status'] | 'all';

const degrees = (value: number | null) => (value === null ? '–' : `${Math.round(value)}°`);
const percent = (value: number) => `${Math.round(value * 100)} %`;

export function QualityTable({ rows }: { rows: readonly QualityRow[] }) {
  const [order, setOrder] = useState<Order>('As imported');
  const [shown, setShown] = useState<Shown>('all');
  const by = orders[order];
  const chosen = rows.filter(({ status }) => shown === 'all' || status === shown);
  const sorted = by === null ? chosen : [...chosen].sort((a, b) => by(a.quality) - by(b.quality));
  return (
    <>
      <Group mb="md" align="end">
        <NativeSelect
          label="Order"
          data={Object.keys(orders)}
          value={order}
          onChange={(event) => setOrder(event.currentTarget.value as Order)}
        />
        <NativeSelect
          label="Show"
          data={[
            { value: 'all', label: 'All images' },
            { value: 'ready', label: 'Ready' },
            { value: 'set-aside', label: 'Set aside' },
          ]}
          value={shown}
          onChange={(event) => setShown(event.currentTarget.value as Shown)}
        />
        <Text size="sm" c="dimmed" pb={6}>
          {formatPlural(sorted.length, 'image')}
        </Text>
      </Group>
      <Paged rows={sorted} resetKey={`${order}/${shown}`} pageSize={25}>
        {(visible) => (
          <Table aria-label="Quality of the faces">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>File</Table.Th>
                <Table.Th>Subject</Table.Th>
                <Table.Th ta="right">Face, pixels</Table.Th>
                <Table.Th ta="right">Sharpness</Table.Th>
                <Table.Th ta="right">Brightness</Table.Th>
                <Table.Th ta="right">Aside</Table.Th>
                <Table.Th ta="right">Up</Table.Th>
                <Table.Th ta="right">Tilt</Table.Th>
                <Table.Th>Remarks</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody className="numbers">
              {visible.map((row) => (
                <QualityLine key={`${row.pseudonym}/${row.sourceName}`} row={row} />
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Paged>
    </>
  );
}

function QualityLine({ row: { sourceName, pseudonym, status, quality } }: { row: QualityRow }) {
  const remarks = [
    ...(status === 'set-aside' ? ['set aside'] : []),
    ...(quality.turned === 0 ? [] : [`turned by ${quality.turned}°`]),
    ...quality.notes,
  ];
  return (
    <Table.Tr>
      <Table.Td className="code">{sourceName}</Table.Td>
      <Table.Td>
        <SubjectLink pseudonym={pseudonym} />
      </Table.Td>
      <Table.Td ta="right">{Math.round(quality.facePixels)}</Table.Td>
      <Table.Td ta="right">{quality.sharpness.toFixed(2)}</Table.Td>
      <Table.Td ta="right">{percent(quality.brightness)}</Table.Td>
      <Table.Td ta="right">{degrees(quality.yaw)}</Table.Td>
      <Table.Td ta="right">{degrees(quality.pitch)}</Table.Td>
      <Table.Td ta="right">{degrees(quality.roll)}</Table.Td>
      <Table.Td>{remarks.join('; ')}</Table.Td>
    </Table.Tr>
  );
}
