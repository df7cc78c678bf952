import { Card, Drawer, Stack, Text } from '@mantine/core';
import { IconRoute } from '@tabler/icons-react';
import type { TraceReport } from '../../core/api/contract.ts';
import { useTrace } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Fact } from '../components/figure.tsx';
import { Loaded } from '../components/loaded.tsx';
import { formatHash, formatPlural, formatRounds } from '../format/format.ts';

const useWords: Record<TraceReport['runs'][number]['versions'][number]['uses'][number], string> = {
  trained: 'trained on them',
  descends: 'builds upon a version that was trained on them',
  evaluated: 'evaluated on them',
  'maybe-evaluated': 'may have been evaluated on them',
  'after-evaluated': 'builds upon a version that was evaluated on them',
};

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
        No image of this subject has been used for training or evaluation on this site.
      </EmptyState>
    );
  }
  return (
    <Stack>
      <Text size="sm" c="dimmed">
        Images of this subject have to do with {formatPlural(report.runs.length, 'run')}. The versions of the
        shared model that they trained or evaluated are listed, and all that build upon these.
      </Text>
      {report.runs.map((run) => (
        <Card key={run.runId} padding="md">
          <Stack gap="xs">
            <Fact label="Run">
              <span className="code">{run.runId}</span>
            </Fact>
            <Fact label="Trained in rounds">
              {run.rounds.length === 0 ? 'none' : formatRounds(run.rounds)}
            </Fact>
            {run.versions.map(({ round, sha256, uses }) => (
              <Fact key={`${round} ${sha256}`} label={round < 0 ? 'Start' : `After round ${round + 1}`}>
                <span className="code">{sha256 === null ? 'not known here' : formatHash(sha256)}</span>{' '}
                {uses.map((use) => useWords[use]).join(', ')}
              </Fact>
            ))}
          </Stack>
        </Card>
      ))}
    </Stack>
  );
}
