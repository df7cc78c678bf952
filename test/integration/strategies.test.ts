import { describe, expect, test } from 'vitest';
import type { RunDetail } from '../../core/api/contract.ts';
import { startFederation, until } from '../fixtures/federation.ts';

const short = { quorum: 2, heatingRounds: 0, coolingRounds: 0, rMax: 4, rMin: 2, targetModules: 'level-256' };
const training = { batchSize: 8, epochs: 1 };

describe('every strategy runs over the real federation', () => {
  test('full initiating, then LoRA; FedAvg of everything; factors averaged apart', async () => {
    await using federation = await startFederation(2);
    const runToEnd = async (settings: object): Promise<RunDetail> => {
      await federation.coordinator.client.coordinator.startRun.mutate({
        classes: federation.classes,
        ...short,
        training,
        ...settings,
      });
      return until('the run to finish', async () => {
        const run = await federation.run();
        return (run.status === 'finished' || run.failure !== null) && run;
      });
    };

    const mixed = await runToEnd({
      strategy: 'sa-fedlora',
      rounds: 2,
      initiatingRounds: 1,
      initiatingMode: 'full',
    });
    const full = await runToEnd({ strategy: 'fedavg-full', rounds: 1, initiatingRounds: 0 });
    const apart = await runToEnd({ strategy: 'fedavg-lora', rounds: 1, initiatingRounds: 0 });

    for (const run of [mixed, full, apart]) {
      expect(run.failure).toBeNull();
      expect(run.done.every((round) => round.sites.every((site) => site.status === 'received'))).toBe(true);
      expect(run.done.every((round) => Number.isFinite(round.meanLoss) && round.accuracy !== null)).toBe(
        true,
      );
    }
    const upPerSite = (run: RunDetail, round: number) => run.done[round]!.bytesUp / 2;
    // 5.6 million weights of 4 bytes in a full round, a small part of that in a LoRA round after it.
    expect(upPerSite(mixed, 0)).toBeGreaterThan(22e6);
    expect(upPerSite(mixed, 1)).toBeLessThan(1e6);
    expect(upPerSite(full, 0)).toBeGreaterThan(22e6);
    expect(apart.done[0]!.rank).toBe(4);
  }, 240_000);
});
