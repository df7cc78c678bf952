/** What persons decide meanwhile: they withdraw, and some consent again. Said through the API, as the screens do. */
import { defaultPurpose } from '../../../core/config/consent-defaults.ts';
import { persist } from '../federation.ts';
import type { Member } from '../schedule.ts';
import type { ConsentEntry, Inflict, World } from './index.ts';

const patienceMs = 20_000;

/** What each subject of a site said last, as the schedule's log has it. */
export function lastActs(
  consents: readonly ConsentEntry[],
  member: Member,
): Map<string, ConsentEntry['act']> {
  const last = new Map<string, ConsentEntry['act']>();
  for (const entry of consents) if (entry.member === member) last.set(entry.pseudonym, entry.act);
  return last;
}

/** Nobody says the contrary while somebody is still trying to say it. */
const isBeingSaid = ({ consents }: World, pseudonym: string): boolean =>
  consents.some((entry) => entry.isOpen === true && entry.pseudonym === pseudonym);

/** Whoever has withdrawn and not consented again. */
export const withdrawnAt = (consents: readonly ConsentEntry[], member: Member): string[] =>
  [...lastActs(consents, member)].filter(([, act]) => act === 'withdraw').map(([pseudonym]) => pseudonym);

async function say(
  { federation, consents }: World,
  entry: Pick<ConsentEntry, 'member' | 'pseudonym' | 'act'>,
): Promise<void> {
  const said: ConsentEntry = { ...entry, askedAt: Date.now(), confirmedAt: null, isOpen: true };
  consents.push(said);
  const { agent } = federation.siteOf(entry.member);
  const { pseudonym } = entry;
  const answer = await persist(async () => {
    const { consent } = agent.client();
    return entry.act === 'withdraw'
      ? consent.withdraw.mutate({ pseudonym, keepImages: true })
      : consent.record.mutate({
          ...{ pseudonym, purpose: defaultPurpose, documentVersion: '1', afterWithdrawal: true },
          // As people write it down: a day.
          validFrom: new Date().toISOString().slice(0, 10),
        });
  }, patienceMs);
  said.isOpen = false;
  if (answer !== null) said.confirmedAt = Date.now();
}

export const withdraw: Inflict<'withdraw'> = async (world, { member, subject }) => {
  const gone = new Set(withdrawnAt(world.consents, member));
  const here = world.federation.siteOf(member).pseudonyms.filter((one) => !gone.has(one));
  const pseudonym = here[Math.floor(subject * here.length)];
  // Enough stay for a round.
  if (pseudonym === undefined || gone.size >= 3 || isBeingSaid(world, pseudonym)) return;
  await say(world, { member, pseudonym, act: 'withdraw' });
};

export const consentAgain: Inflict<'consent-again'> = async (world, { member }) => {
  const pseudonym = withdrawnAt(world.consents, member).find((one) => !isBeingSaid(world, one));
  if (pseudonym !== undefined) await say(world, { member, pseudonym, act: 'grant' });
};

/** So that the next episode begins like the first. */
export async function everybodyConsents(world: World): Promise<void> {
  for (const { agent } of world.federation.sites)
    for (const pseudonym of withdrawnAt(world.consents, agent.member))
      await say(world, { member: agent.member, pseudonym, act: 'grant' });
}
