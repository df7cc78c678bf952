import { Button, Group, Stack, Text } from '@mantine/core';
import type { ProposalRow } from '../../core/api/contract.ts';
import type { SitePolicy } from '../../core/config/site-policy.ts';
import type { Limits } from '../../core/policy/standing-approval.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { policyGroups, ruleOf, sameValue } from '../api/policy-form.ts';
import { useProposals, useSitePolicy } from '../api/queries.ts';
import { formatDateTime } from '../format/format.ts';
import { ruleValue } from '../format/policy-words.ts';
import { decisionChanges } from '../letter/decision-changes.ts';
import { Section } from './page.tsx';
import { RoleButton } from './role-button.tsx';

/** How the screens confirm each kind: by the very call that proposed it. */
const confirmations: Record<ProposalRow['kind'], (proposal: ProposalRow) => Promise<unknown>> = {
  approve: ({ input }) =>
    api.site.approve.mutate({
      contractSha256: String(input['contractSha256']),
      ...('limits' in input ? { limits: input['limits'] as Limits } : {}),
    }),
  policy: ({ input }) => api.site.setPolicy.mutate({ policy: input['policy'] as SitePolicy }),
  // The proposal itself knows the subject by a hash only.
  erase: ({ pseudonym }) => api.rights.erase.mutate({ pseudonym: pseudonym ?? '' }),
};

/** What waits for a second person; nothing when nothing does. */
export function ProposalsPanel() {
  const proposals = useProposals();
  if (proposals.data === undefined || proposals.data.length === 0) return null;
  return (
    <Section
      title="Waiting for a second person"
      description="The policy of this site asks for two people here. Nothing has happened yet."
    >
      <Stack gap="lg">
        {proposals.data.map((proposal) => (
          <Proposal key={proposal.id} proposal={proposal} />
        ))}
      </Stack>
    </Section>
  );
}

const changes = [...decisionChanges, 'dataset', 'adapters'] as const;

function Proposal({ proposal }: { proposal: ProposalRow }) {
  const confirm = useAction(() => confirmations[proposal.kind](proposal), {
    changes,
    success: () => 'Confirmed and done.',
  });
  const end = useAction(() => api.people.endProposal.mutate({ id: proposal.id }), { changes });
  const { title, proposedBy, proposedAt, expiresAt, isMine, fault, kind } = proposal;
  return (
    <Group justify="space-between" align="flex-start" wrap="nowrap" role="group" aria-label={title}>
      <div>
        <Text fw={600}>{title}</Text>
        <Text size="sm" c="dimmed">
          Proposed by {proposedBy}, {formatDateTime(proposedAt)}; ends by itself on{' '}
          {formatDateTime(expiresAt)}.
        </Text>
        {kind === 'policy' && <PolicyChanges policy={proposal.input['policy'] as SitePolicy} />}
        {fault !== null && <Text size="sm">{fault}</Text>}
      </div>
      <Group wrap="nowrap" style={{ flexShrink: 0 }}>
        <Button variant="default" loading={end.isPending} onClick={() => end.mutate(undefined)}>
          {isMine ? 'Take back' : 'Refuse'}
        </Button>
        {fault === null && !(kind === 'erase' && proposal.pseudonym === null) && (
          <RoleButton
            needs={kind === 'erase' ? ['data-manager'] : ['approver']}
            loading={confirm.isPending}
            onClick={() => confirm.mutate(undefined)}
          >
            Confirm
          </RoleButton>
        )}
      </Group>
    </Group>
  );
}

/** Rule by rule, what would change. */
function PolicyChanges({ policy }: { policy: SitePolicy }) {
  const current = useSitePolicy();
  if (current.data === undefined) return null;
  const before = current.data.policy;
  const changed = policyGroups
    .flatMap(([, rules]) => rules)
    .filter((rule) => !sameValue(before[ruleOf(rule)], policy[ruleOf(rule)]));
  return changed.map((rule) => (
    <Text size="sm" key={rule.path}>
      {rule.label}: {ruleValue(rule, before[ruleOf(rule)])} → {ruleValue(rule, policy[ruleOf(rule)])}
    </Text>
  ));
}
