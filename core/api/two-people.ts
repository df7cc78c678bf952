/** What takes two people where the site's policy says so: approvals, erasures, and a policy that protects less. */
import type { Role } from '../config/roles.ts';
import { type SitePolicy, sitePolicySchema, weakenedRules } from '../config/site-policy.ts';
import { hasActive } from '../people/accounts.ts';
import type { Person } from '../people/person.ts';
import {
  type Act,
  expireProposals,
  faultOfSecond,
  type Outcome,
  withSecondPerson,
} from '../people/second-person.ts';
import type { Limits } from '../policy/standing-approval.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { pick } from '../shared/pick.ts';
import { approve } from '../site/decide.ts';
import { policyOrFault, setPolicy } from '../site/policy.ts';
import type { ProposalRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import type { AgentContext } from './context.ts';
import type { ProposalRow } from './contract.ts';

type Actor = Exclude<Person, { kind: 'nobody' }>;

/** A policy that can't be read asks for two: fail closed. */
const asksForTwo = (store: ReadOnlyStore, rule: 'twoPersonApproval' | 'twoPersonErasure'): boolean => {
  const policy = policyOrFault(store);
  return policy instanceof AppError || policy[rule];
};

/** @throws AppError as `approve`, and SECOND_PERSON_NEEDED */
export function approveByPeople(
  agent: AgentContext,
  person: Actor,
  { contractSha256, limits }: { contractSha256: string; limits?: Limits | undefined },
): Promise<Outcome<void>> {
  const required = asksForTwo(agent.store, 'twoPersonApproval');
  const input = { contractSha256, ...(limits === undefined ? {} : { limits }) };
  return withSecondPerson({ store: agent.store, person, required }, { kind: 'approve', input }, () =>
    approve({ ...agent, actor: person.actor }, contractSha256, limits),
  );
}

/**
 * Erases a subject, or proposes to.
 * @param erase is called when the policy allows it by one person, or the second one confirms
 */
export function eraseByPeople<T>(
  store: Store,
  person: Actor,
  pseudonym: string,
  erase: () => T | Promise<T>,
): Promise<Outcome<T>> {
  // Erased already, or never here: there is nothing left that two people could decide.
  const isHere = store.subjects.byPseudonym(pseudonym) !== null;
  const required = isHere && asksForTwo(store, 'twoPersonErasure');
  const act: Act = { kind: 'erase', input: whatErasureIs(store, pseudonym) };
  return withSecondPerson({ store, person, required }, act, erase);
}

/** Whose, and of which images: somebody else's, given to the subject after the proposal, were not in it. */
function whatErasureIs(store: ReadOnlyStore, pseudonym: string): Act['input'] {
  const subject = store.subjects.refOf(pseudonym);
  const stored = store.subjects.byPseudonym(pseudonym);
  if (stored === null) return { subject };
  const hashes = store.images.list({ subjectId: stored.id }).map(({ sha256 }) => sha256);
  return { subject, images: hashes.length, imagesSha256: hashJson(hashes.sort()) };
}

/** @throws AppError SECOND_PERSON_NEEDED; USER_CONFLICT when nobody could be the second person */
export function setPolicyByPeople(
  { store }: Pick<AgentContext, 'store'>,
  person: Actor,
  policy: SitePolicy,
): Promise<Outcome<unknown>> {
  const row = store.sitePolicies.newest();
  const before = sitePolicySchema.safeParse(row?.policy).data ?? null;
  requireSecondPeople(store, before, policy);
  const isGuarded = before !== null && (before.twoPersonApproval || before.twoPersonErasure);
  const required = isGuarded && weakenedRules(before, policy).length > 0;
  // What it weakens depends on what it replaces.
  const act: Act = { kind: 'policy', input: { policy, replaces: row?.version ?? 0 } };
  return withSecondPerson({ store, person, required }, act, () => setPolicy(store, policy, person.actor));
}

/** A rule that nobody could satisfy would stop the site for good. */
function requireSecondPeople(store: ReadOnlyStore, before: SitePolicy | null, after: SitePolicy): void {
  const isNew = (rule: 'twoPersonApproval' | 'twoPersonErasure') => after[rule] && before?.[rule] !== true;
  const erasureIsNew = isNew('twoPersonErasure');
  if (!erasureIsNew && !isNew('twoPersonApproval')) return;
  // An approver in any case: the second one of a policy that protects less, so of taking the rule back.
  const needed: readonly Role[] = erasureIsNew ? ['approver', 'data-manager'] : ['approver'];
  const missing = needed.find((role) => !hasActive(store, role));
  if (missing === undefined) return;
  throw new AppError('USER_CONFLICT', 'There is no user who could be the second person.', {
    action: `Add a user with the role "${missing}" first.`,
  });
}

/** A proposal as the person who asks sees it. */
const rowOf = (
  agent: Pick<AgentContext, 'store'>,
  person: Person,
  proposal: ProposalRecord,
): ProposalRow => ({
  ...pick(proposal, 'id', 'kind', 'input', 'proposedBy', 'proposedAt', 'expiresAt'),
  ...shownOf(agent.store, proposal),
  isMine: person.kind !== 'nobody' && person.actor === proposal.proposedBy,
  fault: person.kind === 'nobody' ? null : faultOfSecond(agent.store, proposal, person),
});

function pseudonymOf(store: Store, { kind, input }: ProposalRecord): string | null {
  if (kind !== 'erase') return null;
  const isMeant = (pseudonym: string) => store.subjects.refOf(pseudonym) === input['subject'];
  return store.subjects.all().find(({ pseudonym }) => isMeant(pseudonym))?.pseudonym ?? null;
}

function shownOf(store: Store, proposal: ProposalRecord): Pick<ProposalRow, 'title' | 'pseudonym'> {
  const pseudonym = pseudonymOf(store, proposal);
  return { pseudonym, title: titleOf(store, proposal, pseudonym) };
}

function titleOf(store: Store, proposal: ProposalRecord, pseudonym: string | null): string {
  const { kind, input } = proposal;
  if (kind === 'policy') return 'A policy that protects less';
  if (kind === 'erase') return `Erase ${pseudonym ?? 'a subject that is not here any more'}`;
  const document = store.contracts.bySha(String(input['contractSha256']))?.document as
    | { settings?: { title?: unknown } }
    | undefined;
  const title = document?.settings?.title;
  return `Approve ${typeof title === 'string' && title !== '' ? `“${title}”` : 'a run'}${'limits' in input ? ' within limits' : ''}`;
}

/** What waits for a second person, oldest first. */
export function pendingProposals(agent: Pick<AgentContext, 'store'>, person: Person): ProposalRow[] {
  expireProposals(agent.store);
  return agent.store.proposals.pending().map((proposal) => rowOf(agent, person, proposal));
}

/** For an answer: the proposal that was made in place of the act; null when it is done. */
export function proposedOf(
  agent: AgentContext,
  person: Person,
  outcome: Outcome<unknown>,
): ProposalRow | null {
  if (outcome.type === 'done') return null;
  agent.emit({ type: 'changed', what: 'run' });
  return rowOf(agent, person, outcome.proposal);
}
