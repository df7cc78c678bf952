/** What persons decide meanwhile: they withdraw, and some consent again. Said through the API, as the screens do. */
import { defaultPurpose } from '../../../core/config/consent-defaults.ts';
import { persist } from '../federation.ts';
import type { Member } from '../schedule.ts';
import type { ConsentEntry, Inflict, World } from './index.ts';

const patienceMs = 20_000;

/** As the schedule's log has it, whoever has withdrawn and not consented again. */
export function withdrawnAt(consents: readonly ConsentEntry[], member: Member): string[] {
  const last = new Map<string, ConsentEntry['act']>();
  for (const entry of consents) if (entry.member === member) last.set(entry.pseudonym, entry.act);
  return [...last].filter(([, act]) => act === 'withdraw').map(([pseudonym]) => pseudonym);
}

async function say(
  { federation, consents }: World,
  entry: Pick<ConsentEntry, 'member' | 'pseudonym' | 'act'>,
): Promise<void> {
  const said: ConsentEntry = { ...entry, askedAt: Date.now(), confirmedAt: null };
  consents.push(said);
  const { agent } = federation.siteOf(entry.member);
  const { pseudonym } = entry;
  const answer = await persist(async () => {
    const { consent } = agent.client();
    return entry.act === 'withdraw'
      ? consent.withdraw.mutate({ pseudonym, keepImages: true })
      : consent.record.mutate({
          ...{ pseudonym, purpose: defaultPurpose, documentVersion: '1', afterWithdrawal: true },
          validFrom: new Date().toISOString(),
        });
  }, patienceMs);
  if (answer !== null) said.confirmedAt = Date.now();
}

export const withdraw: Inflict<'withdraw'> = async (world, { member, subject }) => {
  const gone = new Set(withdrawnAt(world.consents, member));
  const here = world.federation.siteOf(member).pseudonyms.filter((pseudonym) => !gone.has(pseudonym));
  const pseudonym = here[Math.floor(subject * here.length)];
  // Enough stay for a round.
  if (pseudonym === undefined || gone.size >= 3) return;
  await say(world, { member, pseudonym, act: 'withdraw' });
};

export const consentAgain: Inflict<'consent-again'> = async (world, { member }) => {
  const [pseudonym] = withdrawnAt(world.consents, member);
  if (pseudonym !== undefined) await say(world, { member, pseudonym, act: 'grant' });
};

/** So that the next episode begins like the first. */
export async function everybodyConsents(world: World): Promise<void> {
  for (const { agent } of world.federation.sites)
    for (const pseudonym of withdrawnAt(world.consents, agent.member))
      await say(world, { member: agent.member, pseudonym, act: 'grant' });
}
