import { describe, expect, test } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { contractOf } from '../../core/policy/contract.ts';
import { whatLeaves } from '../../core/policy/what-leaves.ts';
import { askedBy } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';

const base = shapeOnlyBase();
const privacy = { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const;
const contractFor = (change: Partial<RunConfig> = {}) =>
  contractOf(
    defaultRunConfig({ baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], ...change }),
    base,
    askedBy,
  );
const card = (change: Partial<RunConfig> = {}) => whatLeaves(contractFor(change), 'clinic');
const namesOf = (change: Partial<RunConfig>) => contractFor(change).leaves.tensors.map(({ name }) => name);

describe('the tensors of a contract', () => {
  const [a, b] = ['lora_A', 'lora_B'].map((factor) =>
    ['body.conv', 'body.q', 'stem.conv'].map((module) => `lora.${module}.${factor}.weight`),
  ) as [string[], string[]];
  const head = ['head.bias', 'head.weight'];

  test.each<[string, Partial<RunConfig>, string[]]>([
    ['both factors and the head', {}, [...a, ...b, ...head]],
    ['only B', { strategy: 'ffa-lora' }, [...b, ...head]],
    ['only A, and no head', { strategy: 'fedsa-lora', localHead: true }, a],
    ['only the head', { strategy: 'head-only' }, head],
    [
      'no weights where no round trains them',
      { initiatingMode: 'full', initiatingRounds: 0 },
      [...a, ...b, ...head],
    ],
  ])('are %s', (_what, change, expected) => {
    expect(namesOf(change)).toEqual([...expected].sort());
  });

  test('are those of all rounds: weights of the first ones, factors of the others', () => {
    const names = namesOf({ initiatingMode: 'full' });

    expect(names.filter((name) => name.startsWith('base.'))).toHaveLength(base.weights.size);
    expect(names).toEqual(expect.arrayContaining([...a, ...b, ...head]));
  });
});

describe('the sentences of the approval card', () => {
  test('name factors, layers, head and bits', () => {
    const { leaves, protection } = card({ wire: { up: 'int8', down: 'fp32', errorFeedback: false } });

    expect(leaves[0]).toBe(
      'LoRA factors of 3 layers and the classification head, after training on your images, rounded to 8 bits',
    );
    expect(protection.join()).toContain('No noise is added');
  });

  test('name all weights, and what comes after them', () => {
    const { leaves } = card({ initiatingMode: 'full' });

    expect(leaves[0]).toContain('All weights of the network');
    expect(leaves[1]).toContain('In later rounds: LoRA factors of 3 layers');
    expect(card({ strategy: 'fedavg-full' }).leaves.join()).not.toContain('LoRA');
  });

  test('count the weights of the last blocks', () => {
    expect(card({ initiatingMode: 'last-k', lastK: 1 }).leaves[0]).toContain(
      "2 weights of the network's last blocks",
    );
  });

  test('name what stays, the rank of this site, and where noise is added', () => {
    const own = card({ strategy: 'fedsa-lora', localHead: true, privacy });
    const ranked = card({ strategy: 'hetlora', siteRanks: { clinic: 3 } });

    expect(own.leaves[0]).toContain('LoRA factors A of 3 layers, after');
    expect(own.protection.join()).toContain('added before it leaves this site');
    expect(own.stays.join()).toContain('The classification head: this site keeps its own');
    expect(own.stays.join()).toContain('LoRA factors B: this site keeps its own');
    expect(ranked.leaves.join()).toContain('rank 3 at most');
    expect(card({ privacy: { ...privacy, at: 'coordinator' } }).protection.join()).toContain(
      'The coordinator receives your change without noise',
    );
  });

  test('say what an update of the classifier gives away, exactly where a step has one image', () => {
    const ofBatch = (batchSize: number, change: Partial<RunConfig> = {}) =>
      card({ ...change, training: { ...contractFor().settings.training, batchSize } }).protection.join();

    expect(ofBatch(1)).toContain('the face template of a single image');
    expect(ofBatch(8)).toContain('a mixture of the face templates that trained, 8 in each step');
    // A hostile coordinator chooses the model: what the mixture says holds for an honest one.
    expect(ofBatch(8)).toContain('can single out the template of one image: only noise added at this site');
    expect(ofBatch(8)).toContain('More subjects, noise and secure aggregation');
    expect(ofBatch(1, { localHead: true })).not.toContain('face template');
  });

  test('name the contributors: fewer than the quorum where a rule leaves some out', () => {
    expect(card({ quorum: 5 }).protection.join()).toContain('the updates of at least 5 sites');
    expect(card({ quorum: 5, robust: { rule: 'multi-krum', byzantine: 1 } }).protection.join()).toContain(
      'the updates of at least 2 sites',
    );
    expect(card({ quorum: 1 }).protection.join()).toContain('may be made from a single update');
  });
});
