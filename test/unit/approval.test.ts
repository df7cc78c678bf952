import { describe, expect, test } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { approvalFor, approvalSchema, covers, leavingOf } from '../../core/site/approval.ts';
import { whatLeaves } from '../../core/site/what-leaves.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';

const base = shapeOnlyBase();
const run = (change: Partial<RunConfig> = {}) =>
  defaultRunConfig({ baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], ...change });
const privacy = { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const;
const wire = (up: 'fp32' | 'fp16' | 'int8') => ({ up, down: 'fp32', errorFeedback: false }) as const;

/** Whether an approval of the first run, stored and read again, allows the second. */
function allows(approved: RunConfig, asked: RunConfig, runId = 'run'): boolean {
  const stored: unknown = JSON.parse(JSON.stringify(approvalFor('run', approved, new Date())));
  return covers(approvalSchema.parse(stored), runId, asked);
}

describe('an approval covers', () => {
  test.each<[string, Partial<RunConfig>, Partial<RunConfig>]>([
    ['the same run again', {}, {}],
    ['a smaller rank', { rMax: 16 }, { rMax: 8 }],
    ['fewer bits', { wire: wire('fp32') }, { wire: wire('int8') }],
    ['a head that stays', {}, { localHead: true }],
    ['a factor that stays', {}, { strategy: 'fedsa-lora' }],
    ['factors after all weights', { strategy: 'fedavg-full' }, { strategy: 'sa-fedlora' }],
    ['noise that was not asked for', {}, { privacy }],
    ['more noise', { privacy }, { privacy: { ...privacy, noiseMultiplier: 2 } }],
    ['another clip norm with the same noise for it', { privacy }, { privacy: { ...privacy, clipNorm: 3 } }],
    [
      'noise at the site instead of at the coordinator',
      { privacy: { ...privacy, at: 'coordinator' } },
      { privacy },
    ],
    ['larger cells', { smallCell: 5 }, { smallCell: 10 }],
    ['more rounds without noise', { rounds: 5 }, { rounds: 50 }],
  ])('%s', (_what, approved, asked) => {
    expect(allows(run(approved), run(asked))).toBe(true);
  });
});

describe('an approval does not cover', () => {
  test.each<[string, Partial<RunConfig>, Partial<RunConfig>]>([
    ['another base model', {}, { baseSha256: 'cd'.repeat(32) }],
    ['another purpose', {}, { purpose: 'marketing' }],
    ['a higher rank', { rMax: 8 }, { rMax: 16 }],
    ['a higher rank of one layer', { rMax: 8 }, { rMax: 8, rankPattern: { 'body.q': 12 } }],
    ['all weights', {}, { strategy: 'fedavg-full' }],
    ['all weights with a pull', {}, { strategy: 'fedprox-full' }],
    ['the last blocks in the first rounds', {}, { initiatingMode: 'last-k' }],
    ['more bits', { wire: wire('int8') }, { wire: wire('fp16') }],
    ['the head that stayed', { localHead: true }, {}],
    ['the factor that stayed', { strategy: 'fedsa-lora' }, { strategy: 'fedavg-lora' }],
    ['another factor than the one that was sent', { strategy: 'fedsa-lora' }, { strategy: 'ffa-lora' }],
    ['no noise', { privacy }, {}],
    ['less noise', { privacy }, { privacy: { ...privacy, noiseMultiplier: 0.5 } }],
    ['noise at the coordinator only', { privacy }, { privacy: { ...privacy, at: 'coordinator' } }],
    ['more rounds under the same noise', { privacy, rounds: 5 }, { privacy, rounds: 6 }],
    ['smaller cells', { smallCell: 5 }, { smallCell: 4 }],
  ])('%s', (_what, approved, asked) => {
    expect(allows(run(approved), run(asked))).toBe(false);
  });
});

test('an approval with noise is for one run, because ε adds up; without noise it covers the next run, too', () => {
  expect(allows(run({ privacy }), run({ privacy }), 'next')).toBe(false);
  expect(allows(run({ privacy: { ...privacy, noiseMultiplier: 0 } }), run({ privacy }), 'next')).toBe(true);
  expect(allows(run(), run(), 'next')).toBe(true);
});

test('an approval of the first release allows what it allowed then, and no noise is expected of it', () => {
  const old = approvalSchema.parse({
    baseSha256: base.sha256,
    purpose: 'federated-training',
    fullWeights: false,
    rMax: 16,
    approvedAt: '2026-11-01T00:00:00.000Z',
  });

  expect(covers(old, 'run', run())).toBe(true);
  expect(covers(old, 'run', run({ strategy: 'fedavg-full' }))).toBe(false);
  expect(covers(old, 'run', run({ smallCell: 2 }))).toBe(false);
});

test('what is sent follows from the plans of the rounds', () => {
  const of = (change: Partial<RunConfig>) => leavingOf(run(change));

  expect(of({ strategy: 'ffa-lora' })).toEqual({ weights: 'none', a: false, b: true, head: true });
  expect(of({ strategy: 'fedsa-lora', localHead: true })).toEqual({
    weights: 'none',
    a: true,
    b: false,
    head: false,
  });
  expect(of({ strategy: 'head-only' })).toEqual({ weights: 'none', a: false, b: false, head: true });
  expect(of({ initiatingMode: 'full' })).toEqual({ weights: 'full', a: true, b: true, head: true });
  expect(of({ initiatingMode: 'full', initiatingRounds: 0 }).weights).toBe('none');
});

describe('the sentences of the approval card', () => {
  const card = (change: Partial<RunConfig>) => whatLeaves(run(change), base, 'clinic');

  test('name factors, layers, head and bits', () => {
    const { tensors, leaves } = card({ wire: wire('int8') });

    expect(tensors).toBe(2 * 3 + 2);
    expect(leaves[0]).toBe(
      'LoRA factors of 3 layers and the classification head, after training on your images, rounded to 8 bits',
    );
    expect(leaves.join()).toContain('No noise is added');
  });

  test('name all weights, and what comes after them', () => {
    const { tensors, leaves } = card({ initiatingMode: 'full' });

    expect(tensors).toBe(base.weights.size + 2);
    expect(leaves[0]).toContain('All weights of the network');
    expect(leaves[1]).toContain('In later rounds: LoRA factors of 3 layers');
    expect(card({ strategy: 'fedavg-full' }).leaves.join()).not.toContain('LoRA');
  });

  test('name what stays, the rank of this site, and where noise is added', () => {
    const own = card({ strategy: 'fedsa-lora', localHead: true, privacy });
    const ranked = card({ strategy: 'hetlora', siteRanks: { clinic: 3 } });

    expect(own.tensors).toBe(3);
    expect(own.leaves[0]).toContain('LoRA factors A of 3 layers, after');
    expect(own.leaves.join()).toContain('added before it leaves this site');
    expect(own.stays.join()).toContain('The classification head: this site keeps its own');
    expect(own.stays.join()).toContain('LoRA factors B: this site keeps its own');
    expect(ranked.leaves.join()).toContain('rank 3 at most');
    expect(card({ privacy: { ...privacy, at: 'coordinator' } }).leaves.join()).toContain(
      'The coordinator receives your change without noise',
    );
  });
});
