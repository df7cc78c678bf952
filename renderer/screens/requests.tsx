import { Anchor, Card, Divider, Group, Stack, Text } from '@mantine/core';
import { IconMail } from '@tabler/icons-react';
import { Link } from 'wouter';
import type { ApprovalCard, SiteOverview, SiteRequests } from '../../core/api/contract.ts';
import { useCard, useSiteOverview, useSiteRequests } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { NoticeSwitch } from '../components/notice-switch.tsx';
import { Page, Section } from '../components/page.tsx';
import { ProposalsPanel } from '../components/proposals-panel.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import { formatDateTime } from '../format/format.ts';
import { decisionWords } from '../format/words.ts';
import { ApprovalPanel } from '../letter/approval-panel.tsx';
import { DecisionsList } from '../letter/decisions-list.tsx';
import { Letter } from '../letter/letter.tsx';
import { LetterAnswer } from '../letter/letter-answer.tsx';
import { isActive } from './stop-run.tsx';

/** What runs ask of this site, and what was said to them. */
export function RequestsScreen() {
  const requests = useSiteRequests();
  return (
    <Page
      title="Requests"
      subtitle="What the coordinator asks of this site. Nothing is trained or sent before somebody here approves it."
      actions={<NoticeSwitch />}
    >
      <Loaded query={requests}>{(data) => <Requests requests={data} />}</Loaded>
    </Page>
  );
}

function Requests({ requests: { pending, decisions } }: { requests: SiteRequests }) {
  return (
    <Stack gap="lg">
      <ProposalsPanel />
      {pending === null ? (
        <Card>
          <EmptyState icon={IconMail} title="No run waits for an answer">
            When the coordinator starts a run, its letter is shown here and on the overview.
          </EmptyState>
        </Card>
      ) : (
        <ApprovalPanel card={pending} />
      )}
      {decisions.length > 0 && (
        <Section title="Decisions" description="What people here said to runs, newest first.">
          <DecisionsList decisions={decisions} />
        </Section>
      )}
    </Stack>
  );
}

/** A letter read again, with what was decided about it. */
export function LetterScreen({ contractSha256 }: { contractSha256: string }) {
  const card = useCard(contractSha256);
  const requests = useSiteRequests();
  const overview = useSiteOverview();
  return (
    <Page
      title="Letter"
      subtitle={
        <Anchor component={Link} href="/requests" size="sm">
          All requests
        </Anchor>
      }
    >
      <Loaded query={card}>
        {(letter) => (
          <Loaded query={requests}>
            {({ decisions }) => (
              <Loaded query={overview}>
                {(site) => <Answered card={letter} decisions={decisions} site={site} />}
              </Loaded>
            )}
          </Loaded>
        )}
      </Loaded>
    </Page>
  );
}

interface AnsweredProps {
  card: ApprovalCard;
  decisions: SiteRequests['decisions'];
  site: SiteOverview;
}

function Answered({ card, decisions, site }: AnsweredProps) {
  const newest = decisions.find((row) => row.contractSha256 === card.contractSha256) ?? null;
  const isOpen = site.run !== null && site.contractSha256 === card.contractSha256 && isActive(site.run);
  return (
    <Card component="section" aria-label="Letter and answer" padding="xl">
      <Letter card={card} />
      <Divider my="lg" />
      <Stack>
        {newest !== null && (
          <Group gap="sm">
            <StatusBadge word={decisionWords[newest.kind]} />
            <Text size="sm" c="dimmed">
              {formatDateTime(newest.createdAt)}, {newest.actor}
              {newest.reason !== null && `: “${newest.reason}”`}
            </Text>
          </Group>
        )}
        {isOpen ? (
          <LetterAnswer card={card} decided={newest?.kind ?? null} />
        ) : (
          <Text size="sm" c="dimmed">
            This run is over; there is nothing to decide any more.
          </Text>
        )}
      </Stack>
    </Card>
  );
}
