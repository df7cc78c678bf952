/** A damaged file of the shared model at the coordinator: it is computed anew or comes back from a site, else its name is said. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type LoneRun, openLoneRun, runId } from '../fixtures/lone-run.ts';

let run: LoneRun;
beforeEach(async () => {
  run = await openLoneRun(['a', 'b'], { rounds: 3, quorum: 2 });
});
afterEach(() => run[Symbol.asyncDispose]());

const until = (probe: () => void) => vi.waitFor(probe, { timeout: 20_000, interval: 50 });
const row = () => run.store.runs.get(runId)!;
const startOf = (round: number) => run.store.rounds.get(runId, round)!.startSha256;
const spoil = {
  damaged: (sha256: string) => writeFileSync(run.blobs.path(sha256), 'damaged'),
  missing: (sha256: string) => rmSync(run.blobs.path(sha256)),
};
type Spoil = keyof typeof spoil;

/** A round of two updates, and the start of the next. @returns the bytes of its state, as the sites have fetched them */
async function closeFirstRound(): Promise<Uint8Array> {
  await run.deliver('a', await run.update(1));
  await run.deliver('b', await run.update(2));
  await until(() => expect(row().round).toBe(1));
  return run.blobs.read(startOf(1));
}

test.each<Spoil>(['damaged', 'missing'])(
  'the first state, %s, is computed anew when a site asks for it',
  async (how) => {
    const sha256 = startOf(0);
    const bytes = await run.blobs.read(sha256);
    spoil[how](sha256);

    run.engine.stateDamaged(sha256);

    await until(() => expect(readFileSync(run.blobs.path(sha256))).toEqual(bytes));
    expect(row().pause).toBeNull();
  },
);

test.each<Spoil>(['damaged', 'missing'])(
  'the state of a later round, %s, comes back from a site that has fetched it',
  async (how) => {
    const bytes = await closeFirstRound();
    const update = [await run.update(3), await run.update(4)] as const;
    run.give(bytes);
    spoil[how](startOf(1));

    run.engine.stateDamaged(startOf(1));
    await until(() => expect(readFileSync(run.blobs.path(startOf(1)))).toEqual(bytes));
    await run.deliver('a', update[0]);
    await run.deliver('b', update[1]);

    await until(() => expect(row().round).toBe(2));
    expect(row().pause).toBeNull();
    expect(run.faults).toEqual([]);
  },
);

test('many sites that ask for the same damaged state are one damage, not many', async () => {
  const bytes = await closeFirstRound();
  run.give(bytes);
  const updates = [await run.update(3), await run.update(4)] as const;
  spoil.damaged(startOf(1));

  for (let site = 0; site < 10; site++) run.engine.stateDamaged(startOf(1));
  await run.deliver('a', updates[0]);
  await run.deliver('b', updates[1]);

  await until(() => expect(row().round).toBe(2));
  expect(row().pause).toBeNull();
  expect(run.pulled.filter((sha256) => sha256 === startOf(1))).toHaveLength(1);
});

test.each<Spoil>(['damaged', 'missing'])(
  'when no site has it, the run waits and names the file; the manifest says so',
  async (how) => {
    const bytes = await closeFirstRound();
    const sha256 = startOf(1);
    run.unknown.add(sha256);
    spoil[how](sha256);

    run.engine.stateDamaged(sha256);

    await until(() => expect(row().pause).toMatchObject({ kind: 'person' }));
    const { message, action } = row().pause!.failure!;
    expect(message).toContain(sha256.slice(0, 12));
    expect(action).toContain('backup');
    expect(run.engine.manifest()).toMatchObject({ state: { sha256, sizeBytes: bytes.length } });
    expect(run.engine.manifest().paused).not.toBeNull();

    // A person puts the file back.
    await run.blobs.put(bytes);
    await run.engine.goOn();
    await run.deliver('a', await run.update(3));
    await run.deliver('b', await run.update(4));
    await until(() => expect(row().round).toBe(2));
  },
);
