import { Alert, Card, SimpleGrid, Stack } from '@mantine/core';
import { IconCircleCheck, IconEye } from '@tabler/icons-react';
import type { ConsentFileReport } from '../../core/api/consent-files-router.ts';
import type { ConsentsReport, ImportPreview } from '../../core/api/contract.ts';
import { ReportPanel } from '../components/error-panel.tsx';
import { Figure } from '../components/figure.tsx';
import { ConsentLists, Names } from '../components/subject-names.tsx';
import { formatCount } from '../format/format.ts';

export type ConsentFileOutcome =
  | ({ format: 'fhir' } & ConsentFileReport)
  | ({ format: 'table' } & ConsentsReport)
  | { format: 'table preview'; table: ImportPreview };
type Report = Exclude<ConsentFileOutcome, { format: 'fhir' }>;

/** What a table of consents does, or did. */
export function TableReport({ report }: { report: Report }) {
  return (
    <Card component="section" aria-label="Report on the consents">
      <Stack>{report.format === 'table' ? <Recorded report={report} /> : <Forecast report={report} />}</Stack>
    </Card>
  );
}

function Recorded({ report }: { report: Extract<Report, { format: 'table' }> }) {
  return (
    <>
      <Alert color="green" icon={<IconCircleCheck aria-hidden />} role="status">
        The consents are recorded.
      </Alert>
      <Names title="Granted" names={report.granted} />
      <Names title="Withdrawn" names={report.withdrawn} />
      <ConsentLists report={report} />
      <Names title="No such subject here; none is made" names={report.unknown} />
    </>
  );
}

function Forecast({ report: { table } }: { report: Extract<Report, { format: 'table preview' }> }) {
  const { consents, subjects, blocked } = table;
  return (
    <>
      {blocked ? (
        <ReportPanel report={blocked} />
      ) : (
        <Alert color="blue" icon={<IconEye aria-hidden />} role="status">
          Nothing is recorded yet.
        </Alert>
      )}
      <SimpleGrid cols={4}>
        <Figure label="Would be granted" value={formatCount(consents.granted)} />
        <Figure label="Would be withdrawn" value={formatCount(consents.withdrawn)} />
        <Figure label="Still withdrawn" value={formatCount(consents.stillWithdrawn)} />
        <Figure label="Known already" value={formatCount(consents.known)} />
      </SimpleGrid>
      <Names title="No such subject here; none is made" names={subjects.unknown} />
      <Names title="Problems" names={table.problems.map(({ line, message }) => `line ${line}: ${message}`)} />
    </>
  );
}
