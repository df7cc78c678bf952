import { Alert, Button, Card, Group, List, SimpleGrid, Stack, Text } from '@mantine/core';
import { IconAlertTriangle, IconCircleCheck, IconEye } from '@tabler/icons-react';
import type { ReactNode } from 'react';
import type { ConsentFileReport as Report } from '../../core/api/consent-files-router.ts';
import { Figure } from '../components/figure.tsx';
import { longestList, Names } from '../components/subject-names.tsx';
import { formatCount, formatPlural } from '../format/format.ts';

interface ReportProps {
  report: Report;
  isPreview: boolean;
  /** What a code is offered to permit. */
  purpose: string;
  onMap: (code: string) => void;
}

/** What a file of consents does, or did. */
export function ConsentFileReport({ report, isPreview, purpose, onMap }: ReportProps) {
  const { problems, heldBack, notUsed, unmapped } = report;
  return (
    <Card component="section" aria-label="Report on the consents">
      <Stack>
        <Verdict report={report} isPreview={isPreview} />
        <SimpleGrid cols={4}>
          <Figure label="Consents" value={formatCount(report.consents)} />
          <Figure
            label={isPreview ? 'Would be recorded' : 'Recorded'}
            value={formatCount(report.recorded.length)}
          />
          <Figure
            label={isPreview ? 'Would be withdrawn' : 'Withdrawn'}
            value={formatCount(report.withdrawn.length)}
          />
          <Figure label="Known already" value={formatCount(report.unchanged)} />
        </SimpleGrid>
        <Names title="Recorded" names={report.recorded} />
        <Names title="Of these, given after a withdrawal" names={report.reconsented} />
        <Names title="Withdrawn or ended" names={report.withdrawn} />
        <Names
          title="Still withdrawn, because the consent is not certainly newer than the withdrawal"
          names={report.stillWithdrawn}
        />
        <Names title="No such subject here; none is made" names={report.unknown} />
        <Lines
          title="Gave no grant"
          rows={notUsed.map(({ place, subject, reason }) => [place, `${subject}: ${reason}`])}
        />
        {unmapped.length > 0 && (
          <Lines
            title="Codes that permit nothing here"
            rows={unmapped.map(({ code, consents }) => [
              code,
              <Group key={code} gap="xs">
                <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                  {code}, in {formatPlural(consents, 'consent')}
                </Text>
                {isPreview && (
                  <Button size="compact-xs" variant="default" onClick={() => onMap(code)}>
                    Permits {purpose}
                  </Button>
                )}
              </Group>,
            ])}
          />
        )}
        <Lines title="Problems" rows={problems.map(({ place, message }) => [place, `${place} ${message}`])} />
        {heldBack > 0 && (
          <Text size="sm">
            {formatPlural(heldBack, 'consent')} held back: grants are recorded when the whole file is
            understood.
          </Text>
        )}
        {report.withoutNames > 0 && (
          <Text size="sm" c="dimmed">
            Names and texts for people are left out of {formatPlural(report.withoutNames, 'consent')}.
          </Text>
        )}
      </Stack>
    </Card>
  );
}

function Verdict({ report, isPreview }: Pick<ReportProps, 'report' | 'isPreview'>) {
  if (report.problems.length > 0) {
    return (
      <Alert color="yellow" icon={<IconAlertTriangle aria-hidden />} role="status">
        {formatPlural(report.problems.length, 'problem')} in this file. Withdrawals count all the same; grants
        wait.
      </Alert>
    );
  }
  if (isPreview) {
    return (
      <Alert color="blue" icon={<IconEye aria-hidden />} role="status">
        Nothing is recorded yet. {report.isPartOfMore && 'This file is one page of several.'}
      </Alert>
    );
  }
  return (
    <Alert color="green" icon={<IconCircleCheck aria-hidden />} role="status">
      The consents are recorded.{' '}
      {report.isPartOfMore && 'This file is one page of several: import the others, too.'}
    </Alert>
  );
}

/** Rows of a key and what is shown. */
function Lines({ title, rows }: { title: string; rows: readonly (readonly [string, ReactNode])[] }) {
  if (rows.length === 0) return null;
  const more = rows.length - longestList;
  return (
    <Stack gap={4}>
      <Text size="sm" fw={600}>
        {title}
      </Text>
      <List size="sm" aria-label={title}>
        {rows.slice(0, longestList).map(([key, shown], index) => (
          // One place may have several problems; the list is never changed.
          // biome-ignore lint/suspicious/noArrayIndexKey: see above
          <List.Item key={`${index} ${key}`}>{shown}</List.Item>
        ))}
      </List>
      {more > 0 && <Text size="sm">and {formatCount(more)} more</Text>}
    </Stack>
  );
}
