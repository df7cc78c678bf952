import { Text } from '@mantine/core';
import type { ConsentsReport } from '../../core/api/contract.ts';
import { formatCount } from '../format/format.ts';

/** A table may name ten thousand. */
export const longestList = 50;

/** The first of some names, under what they have in common; nothing when there is none. */
export function Names({ title, names }: { title: string; names: readonly string[] }) {
  if (names.length === 0) return null;
  const more = names.length - longestList;
  const shown = `${names.slice(0, longestList).join(', ')}${more > 0 ? ` and ${formatCount(more)} more` : ''}`;
  return (
    <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
      <Text span fw={600} size="sm">
        {title}:
      </Text>{' '}
      {shown.endsWith('.') ? shown : `${shown}.`}
    </Text>
  );
}

type Named = Pick<ConsentsReport, 'reconsented' | 'stillWithdrawn' | 'contradictions'>;

/** Of whom a table says another thing than what was known, or two things. */
export function ConsentLists({ report }: { report: Named }) {
  return (
    <>
      <Names title="Withdrawn, though another line of the table says granted" names={report.contradictions} />
      <Names title="Given again after a withdrawal" names={report.reconsented} />
      <Names
        title="Still withdrawn, because the consent in the table is older, or has no date or form"
        names={report.stillWithdrawn}
      />
    </>
  );
}
