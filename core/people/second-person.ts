/**
 * Acts that take two people: one proposes, another one confirms exactly the same within two weeks. Both call the same
 * procedure with the same input, so what is confirmed is what is done, and there is no second way in.
 */
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { pick } from '../shared/pick.ts';
import type { ProposalKind, ProposalRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { activeUser } from './accounts.ts';
import { osUser } from './names.ts';
import type { Person } from './person.ts';

const validDays = 14;

export interface Act {
  kind: ProposalKind;
  /** What it does, as JSON. Subjects by `subjects.refOf`, never by pseudonym: proposals outlive them. */
  input: Record<string, unknown>;
}

export type Outcome<T> =
  | { type: 'done'; result: T }
  /** Waits for another person. */
  | { type: 'proposed'; proposal: ProposalRecord };

type Actor = Exclude<Person, { kind: 'nobody' }>;

interface Context {
  store: Store;
  person: Actor;
}

const hashOf = ({ kind, input }: Act) => hashJson({ kind, input });

/**
 * Does it at once where the site's policy asks for one person. Where it asks for two, the first call is kept as a
 * proposal, and the same call by another person does it.
 * @param required what the policy says; read it in the same turn
 * @param perform if it throws, the proposal waits on
 * @throws AppError SECOND_PERSON_NEEDED when the same person calls again, or the second one has no account
 */
export async function withSecondPerson<T>(
  { store, person, required }: Context & { required: boolean },
  act: Act,
  perform: () => T | Promise<T>,
): Promise<Outcome<T>> {
  if (!required) return { type: 'done', result: await perform() };
  const step = store.transaction(() => proposeOrClaim(store, person, act));
  if (step.type === 'proposed') return step;
  try {
    return { type: 'done', result: await perform() };
  } catch (thrown) {
    store.transaction(() => {
      store.proposals.reopen(step.proposal.id);
      record(store, person.actor, 'act-not-done', step.proposal);
    });
    throw thrown;
  }
}

/** Claimed before it is done: two people who confirm at once do it once. */
function proposeOrClaim(store: Store, person: Actor, act: Act) {
  expireProposals(store);
  const pending = store.proposals.pendingOf(act.kind, hashOf(act));
  if (pending === null) return propose(store, person, act);
  checkSecond(store, pending, person);
  store.proposals.settle(pending.id, 'confirmed', person.actor);
  record(store, person.actor, 'act-confirmed', pending);
  return { type: 'claimed' as const, proposal: pending };
}

function propose(store: Store, { actor }: Actor, act: Act) {
  const expiresAt = new Date(Date.parse(store.now()) + validDays * 86_400_000).toISOString();
  const proposal = store.proposals.add({ ...act, sha256: hashOf(act), proposedBy: actor, expiresAt });
  record(store, actor, 'act-proposed', proposal);
  return { type: 'proposed' as const, proposal };
}

function record(store: Store, actor: string, action: string, proposal: ProposalRecord): void {
  const details = { proposal: proposal.id, ...pick(proposal, 'kind', 'sha256', 'proposedBy') };
  store.audit.append({ actor, action, details });
}

/** The account that the operating system's user most likely has: the same person under two names is one person. */
const isOwnersAccount = (proposedBy: string, account: string) =>
  proposedBy.startsWith(`${osUser()} (`) && osUser().toLowerCase() === account;

/**
 * Why this person can't be the second one; null when they can. Also what the screens say.
 * A password that the proposer handed out after proposing counts as theirs.
 */
export function faultOfSecond(store: Store, proposal: ProposalRecord, person: Actor): string | null {
  if (person.actor === proposal.proposedBy || isOwnersAccount(proposal.proposedBy, person.actor))
    return 'You proposed this yourself; it waits for another person.';
  if (person.kind !== 'account')
    return 'The second person confirms under a name of their own, with a user account.';
  const user = activeUser(store, person.actor);
  const isHandedOut =
    user?.passwordGivenBy === proposal.proposedBy && (user.passwordGivenAt ?? '') >= proposal.proposedAt;
  return user === null || isHandedOut
    ? 'Who proposed this gave your account its password after that; another person must confirm it.'
    : null;
}

function checkSecond(store: Store, proposal: ProposalRecord, person: Actor): void {
  const fault = faultOfSecond(store, proposal, person);
  if (fault !== null) throw new AppError('SECOND_PERSON_NEEDED', fault);
}

/** Proposals whose time is over, or whose proposer has no account any more, end. */
export function expireProposals(store: Store): void {
  store.transaction(() => {
    for (const proposal of store.proposals.expire()) record(store, 'anneal', 'act-expired', proposal);
    for (const proposal of store.proposals.pending()) {
      if (store.users.get(proposal.proposedBy) === null || activeUser(store, proposal.proposedBy) !== null)
        continue;
      store.proposals.settle(proposal.id, 'withdrawn', 'anneal');
      record(store, 'anneal', 'act-withdrawn', proposal);
    }
  });
}

/** Ends a proposal: who proposed it takes it back, anybody else refuses it. @throws AppError NOT_FOUND */
export function endProposal({ store, person }: Context, id: number): void {
  store.transaction(() => {
    const proposal = store.proposals.get(id);
    const isOwn = proposal?.proposedBy === person.actor;
    if (proposal === null || !store.proposals.settle(id, isOwn ? 'withdrawn' : 'refused', person.actor))
      throw new AppError('NOT_FOUND', 'This proposal has been settled already.');
    record(store, person.actor, isOwn ? 'act-withdrawn' : 'act-refused', proposal);
  });
}
