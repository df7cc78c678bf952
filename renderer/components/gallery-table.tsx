import { Table } from '@mantine/core';
import type { RunDetail } from '../../core/api/contract.ts';
import { formatCount, formatPercent } from '../format/format.ts';

const ranks = ['rank1', 'rank5', 'rank10', 'rank30'] as const;
type Gallery = NonNullable<RunDetail['untrained']>;

/** The newest round with figures of a gallery. */
const newest = ({ done }: RunDetail) => done.findLast(({ metrics }) => metrics?.gallery != null);

export const hasGallery = (run: RunDetail): boolean => run.untrained !== null || newest(run) !== undefined;

/** How often the right class is among the nearest 1, 5, 10 or 30, before training and after it. */
export function GalleryTable({ run }: { run: RunDetail }) {
  const round = newest(run);
  const gallery = round?.metrics?.gallery ?? null;
  return (
    <Table.ScrollContainer
      minWidth={560}
      scrollAreaProps={{ type: 'auto', offsetScrollbars: 'x', viewportProps: { tabIndex: 0 } }}
    >
      <Table aria-label="Nearest in the gallery" className="numbers" horizontalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>State</Table.Th>
            <Table.Th>Images</Table.Th>
            {ranks.map((rank) => (
              <Table.Th key={rank} ta="right">
                Nearest {rank.replace('rank', '')}
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {run.untrained && <Rows when="Before training" gallery={run.untrained} />}
          {round && gallery && (
            <Rows when={`After round ${formatCount(round.round + 1)}`} gallery={gallery} />
          )}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Rows({ when, gallery }: { when: string; gallery: Gallery }) {
  const { overClasses, classes, rare } = gallery;
  const rows = [
    { what: `${formatCount(Math.round(gallery.total))} of trained classes`, shares: gallery },
    ...(classes > 0 ? [{ what: `mean over ${formatCount(classes)} classes`, shares: overClasses }] : []),
    ...(rare === null
      ? []
      : [{ what: `${formatCount(Math.round(rare.total))} of classes not trained`, shares: rare }]),
  ];
  return rows.map(({ what, shares }) => (
    <Table.Tr key={what}>
      <Table.Td>{when}</Table.Td>
      <Table.Td>{what}</Table.Td>
      {ranks.map((rank) => (
        <Table.Td key={rank} ta="right">
          {formatPercent(shares[rank])}
        </Table.Td>
      ))}
    </Table.Tr>
  ));
}
