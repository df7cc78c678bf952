/**
 * What the people of the hospitals do while things go wrong: now and then they read what Anneal says, and do what it advises.
 * Nobody does anything else.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentClient } from '../../core/api/client.ts';
import { defaultPurpose } from '../../core/config/consent-defaults.ts';
import { blobOf, putBack } from './faults/bit-flip.ts';
import { lastActs } from './faults/consents.ts';
import type { FlipEntry, Wait, World } from './faults/index.ts';
import type { ChaosSite } from './federation.ts';

/** Somebody who waits for an answer goes away after this, and looks again later. */
const patienceMs = 10_000;
const lookEveryMs = 2_000;
const rightWithinMs = 30_000;

/** Reads and does until it is told to end; @returns when that is over */
export async function whileWatching(world: World, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await doWhatIsAdvised(world);
    await sleep(lookEveryMs, undefined, { signal }).catch(() => {});
  }
}

/** @returns what still waits, in words: whoever is not connected, does not answer, or said something that a person had to do */
export async function doWhatIsAdvised(world: World): Promise<string[]> {
  const waiting = await Promise.all([
    patiently(() => resumeRun(world)).then((isCalm) => (isCalm === true ? [] : ['coordinator'])),
    ...world.federation.sites.map(async (site) =>
      (await patiently(() => lookAfter(world, site))) === true ? [] : [site.agent.member],
    ),
  ]);
  return waiting.flat();
}

/** @returns null when there was no answer */
async function patiently<T>(work: () => Promise<T>): Promise<T | null> {
  const tooLong = new AbortController();
  const late = sleep(patienceMs, null, { signal: tooLong.signal }).catch(() => null);
  try {
    return await Promise.race([work().catch(() => null), late]);
  } finally {
    tooLong.abort();
  }
}

/** A run that waits for a person says why. */
async function resumeRun(world: World): Promise<boolean> {
  const { federation, note } = world;
  const client = federation.coordinator.client();
  const [newest] = (await client.coordinator.overview.query()).runs;
  if (newest?.pause?.kind !== 'person') return true;
  const { code = 'INTERNAL', message = '' } = newest.pause.failure ?? {};
  if (code === 'BLOB_CORRUPT' || code === 'NOT_FOUND') {
    // "Restore the files of the data folder": it says which.
    const isNamed = ({ member, file }: FlipEntry) =>
      member === 'coordinator' && message.includes(blobOf(file)?.slice(0, 12) ?? file);
    const count = await putBack(world, isNamed, true);
    note(`coordinator: a person puts ${count} file(s) back: ${message}`);
  }
  note(`coordinator: a person resumes the run (${code})`);
  await client.coordinator.resumeRun.mutate({ runId: newest.id });
  return false;
}

async function lookAfter(world: World, site: ChaosSite): Promise<boolean> {
  const client = site.agent.client();
  const status = await client.status.query();
  const isDone = [
    await confirmClock(world, site, client),
    await confirmRestore(world, site, client),
    await importAgain(world, site, client),
  ];
  return status.broker.state === 'online' && isDone.every(Boolean);
}

/** Whoever looks has a watch: what a wrong clock shows is confirmed by nobody. */
async function confirmClock(
  world: World,
  { agent: { member } }: ChaosSite,
  client: AgentClient,
): Promise<boolean> {
  const { problem, now } = await client.consent.time.query();
  if (Math.abs(Date.parse(now) - Date.now()) > rightWithinMs) return false;
  if (problem !== null) {
    await client.consent.confirmClock.mutate();
    world.note(`${member}: a person confirms the clock`);
    waited(world, member, world.clocksWrongSince.get(member) ?? Date.now());
  }
  world.clocksWrongSince.delete(member);
  return problem === null;
}

/** Papers and messages are what people have: whoever withdrew is recorded again, and who consented again, before it is confirmed. */
async function confirmRestore(
  world: World,
  { agent: { member } }: ChaosSite,
  client: AgentClient,
): Promise<boolean> {
  const { restored } = await client.site.overview.query();
  if (restored === null) return true;
  const known = new Map(
    (await client.site.subjects.query()).map(({ pseudonym, consent }) => [pseudonym, consent]),
  );
  for (const [pseudonym, act] of lastActs(world.consents, member)) {
    const isWithdrawn = known.get(pseudonym) === 'withdrawn';
    if (act === 'withdraw' && !isWithdrawn)
      await client.consent.withdraw.mutate({ pseudonym, keepImages: true });
    if (act === 'grant' && isWithdrawn)
      await client.consent.record.mutate({
        ...{ pseudonym, purpose: defaultPurpose, documentVersion: '1', afterWithdrawal: true },
        validFrom: new Date().toISOString().slice(0, 10),
      });
  }
  await client.site.confirmRestore.mutate();
  const entry = world.restores.findLast((one) => one.member === member && one.confirmedAt === null);
  if (entry !== undefined) {
    entry.confirmedAt = Date.now();
    waited(world, member, entry.restoredAt);
  }
  world.note(`${member}: a person confirms the restored data (${restored.how}, ${restored.missing} missing)`);
  return false;
}

/** Photographs whose crops were damaged are set aside, with the advice to import them again. */
async function importAgain(
  world: World,
  { agent: { member }, importImages }: ChaosSite,
  client: AgentClient,
): Promise<boolean> {
  const aside = await client.site.setAside.query();
  const damaged = aside.filter(({ kind }) => kind === 'damaged');
  if (damaged.length === 0) return true;
  world.note(`${member}: a person imports ${damaged.length} damaged photograph(s) again`);
  await importImages();
  return false;
}

const waited = (world: World, member: Wait['member'], beganAt: number) =>
  void world.waits.push({ member, beganAt, endedAt: Date.now() });
