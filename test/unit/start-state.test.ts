/** Which results a run can start from: files of every kind are taken as they are, and read as they were meant, or refused. */
import { describe, expect, test } from 'vitest';
import { type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { startStateFrom } from '../../core/coordinator/start-state.ts';
import { type LoneRun, openLoneRun, runId } from '../fixtures/lone-run.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';

const base = shapeOnlyBase();
const sites = ['a', 'b'];
const annealed = { rounds: 4, initiatingRounds: 1, coolingRounds: 1, rMin: 2 } as const;
type Change = Partial<RunConfig>;

async function closeRounds(run: LoneRun, rounds: number): Promise<RunConfig> {
  for (let round = 0; round < rounds; round++)
    for (const [index, siteId] of sites.entries()) {
      const { accepted, reason } = await run.deliver(siteId, await run.update(10 * round + index, siteId));
      expect([accepted, reason]).toEqual([true, undefined]);
    }
  return runConfigSchema.parse(run.store.runs.get(runId)!.config);
}

const kinds: [string, Change][] = [
  ['annealed ranks, which are lower than those of the first round', { ...annealed }],
  ['ranks that differ from layer to layer', { ...annealed, allocation: 'spectral' }],
  ['whole numbers of 8 bits', { ...annealed, wire: { up: 'int8', down: 'int8', errorFeedback: false } }],
  ['numbers of 16 bits', { ...annealed, wire: { up: 'fp16', down: 'fp16', errorFeedback: false } }],
  ['a fixed A, which rotates', { ...annealed, freezeA: true }],
  ['averaged factors', { strategy: 'fedavg-lora', rounds: 3 }],
  ['a fixed A that does not travel', { strategy: 'ffa-lora', rounds: 3 }],
  ['only A shared', { strategy: 'fedsa-lora', rounds: 3 }],
  ['a classifier only', { strategy: 'head-only', rounds: 3 }],
];

describe('a run can start from the result of a round', () => {
  test.each(kinds)('with %s', async (_what, change) => {
    await using run = await openLoneRun(sites, change);
    const config = await closeRounds(run, 2);

    const start = await startStateFrom(run, { runId, round: 1 }, config, base);

    expect(start).toEqual({ runId, round: 1, sha256: run.store.rounds.get(runId, 1)!.resultSha256 });
  });
});

describe('no run starts', () => {
  test.each<[string, Change, Change, RegExp]>([
    ['with other classes', annealed, { classes: ['a', 'c'] }, /classes/],
    ['with a lower rank than the result has', annealed, { rMax: 1, rMin: 1 }, /rank/],
    ['with other layers', annealed, { excludeModules: [base.layers[0]!.module] }, /layer|nobody asked/],
    [
      'with another seed, where the file leaves A to it',
      { ...annealed, freezeA: true },
      { seed: 9 },
      /"seed"/,
    ],
    [
      'with another precision',
      { ...annealed, wire: { up: 'int8', down: 'int8', errorFeedback: false } },
      { wire: { up: 'fp16', down: 'fp16', errorFeedback: false } },
      /round 2/,
    ],
    ['under which other parts lie', { strategy: 'flora-stack', rounds: 3 }, {}, /parts lie under it/],
    ['with base weights in it', { strategy: 'fedavg-full', rounds: 3 }, {}, /nobody asked/],
  ])('%s', async (_what, change, other, why) => {
    await using run = await openLoneRun(sites, change);
    const config = await closeRounds(run, 2);

    const start = startStateFrom(run, { runId, round: 1 }, { ...config, ...other }, base);

    await expect(start).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(why),
    });
  });

  test('from a round that has no result, a run that does not exist, or what is marked', async () => {
    await using run = await openLoneRun(sites, annealed);
    const config = await closeRounds(run, 1);
    const from = (id: string, round: number) => startStateFrom(run, { runId: id, round }, config, base);

    await expect(from(runId, 1)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(from('none', 0)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const { updateSha256 } = run.store.roundSites.get(runId, 0, 'a')!;
    run.store.withdrawalNotices.add({ runId, round: 0, siteId: 'a', updateSha256: updateSha256! });
    await expect(from(runId, 0)).rejects.toMatchObject({ message: expect.stringContaining('has withdrawn') });
  });
});
