import { Card, Drawer, Stack, Text } from '@mantine/core';
import { IconRoute } from '@tabler/icons-react';
import type { TraceReport } from '../../core/api/contract.ts';
import { useTrace } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Fact } from '../components/figure.tsx';
import { Loaded } from '../components/loaded.tsx';
import { formatHash, formatPlural, formatRounds } from '../format/format.ts';

interface TraceDrawerProps {
  pseudonym: string;
  onClose: () => void;
}

/** "Which of my patients is in this model?", asked from the patient's side. */
export function TraceDrawer({ pseudonym, onClose }: TraceDrawerProps) {
  const trace = useTrace(pseudonym);
  return (
    <Drawer opened onClose={onClose} position="right" size="md" title={`Which runs is ${pseudonym} in?`}>
      <Loaded query={trace}>{(report) => <TraceList report={report} />}</Loaded>
    </Drawer>
  );
}

function TraceList({ report }: { report: TraceReport }) {
  if (report.runs.length === 0) {
    return (
      <EmptyState icon={IconRoute} title="In no run">
        No image of this subject has been used for training on this site.
      </EmptyState>
    );
  }
  return (
    <Stack>
      <Text size="sm" c="dimmed">
        Images of this subject were used in {formatPlural(report.runs.length, 'run')}. The shared adapters
        listed were merged from rounds that the subject took part in.
      </Text>
      {report.runs.map((run) => (
        <Card key={run.runId} padding="md">
          <Stack gap="xs">
            <Fact label="Run">
              <span className="code">{run.runId}</span>
            </Fact>
            <Fact label="Rounds">{formatRounds(run.rounds)}</Fact>
            <Fact label="Shared adapters">
              {run.globalAdapters.length === 0 ? (
                'none yet'
              ) : (
                <span className="code">{run.globalAdapters.map(formatHash).join(', ')}</span>
              )}
            </Fact>
          </Stack>
        </Card>
      ))}
    </Stack>
  );
}
