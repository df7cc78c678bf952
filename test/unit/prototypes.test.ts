import { describe, expect, test } from 'vitest';
import { preparingRounds } from '../../core/config/run-config.ts';
import { completeRunConfig } from '../../core/coordinator/run-settings.ts';
import { prototypeSums } from '../../core/engine/prototype-sums.ts';
import { createRandom } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { checkUpdate } from '../../core/strategy/check-update.ts';
import { headFromSums } from '../../core/strategy/prototypes.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import type { SiteUpdate } from '../../core/strategy/strategy.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { aggregateOnce, runSettings } from '../fixtures/strategy-rounds.ts';

const base = shapeOnlyBase();
const size = base.embeddingSize;
const classes = ['a', 'b', 'c'];
const config = runSettings(base, { classes, headStart: 'prototypes' });
const start = createRunState(config, base);
const plan = getStrategy(config.strategy).configureTrain(config, 0);

interface Photo {
  label: number;
  subject: number;
  embedding: Float32Array;
}

/** Photographs of some subjects in three classes that lie apart; one in four subjects has several. */
function photographs(subjects: number, seed: number): Photo[] {
  const random = createRandom(seed);
  const draw = () => Float32Array.from({ length: size }, () => random.normal());
  const centres = classes.map(draw);
  return Array.from({ length: subjects }, (_, subject) => {
    const label = subject % classes.length;
    const own = draw();
    return Array.from({ length: subject % 4 === 0 ? 5 : 1 }, (): Photo => {
      const embedding = draw().map((value, i) => 3 * (centres[label]![i]! + 0.5 * own[i]! + 0.2 * value));
      return { label, subject, embedding };
    });
  }).flat();
}

function sumsOf(photos: readonly Photo[], { smallCell = 1, divisor = photos.length } = {}): Float32Array {
  const sums = prototypeSums({ classes: classes.length, size });
  for (const { embedding, label, subject } of photos) expect(sums.add(embedding, label, subject)).toBe(true);
  return sums.rows({ smallCell, divisor });
}

const headOf = (rows: Float32Array) =>
  new Map([
    ['weight', floatTensor([classes.length, size], rows)],
    ['bias', floatTensor([classes.length])],
  ]);

const updateOf = (siteId: string, photos: readonly Photo[], smallCell = 1): SiteUpdate => ({
  siteId,
  examples: photos.length,
  state: { ...start, head: headOf(sumsOf(photos, { smallCell })) },
});

const row = ({ data }: FloatTensor, label: number) => data.subarray(label * size, (label + 1) * size);
const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

/** The direction of a class's mean over subjects, each with the mean of its unit embeddings; in plain numbers. */
function centralMean(photos: readonly Photo[], label: number): Float64Array {
  const mean = new Float64Array(size);
  const bySubject = Map.groupBy(
    photos.filter((photo) => photo.label === label),
    ({ subject }) => subject,
  );
  for (const own of bySubject.values())
    for (const { embedding } of own) {
      const length = Math.hypot(...embedding);
      for (let i = 0; i < size; i++) mean[i]! += embedding[i]! / length / own.length;
    }
  const length = Math.hypot(...mean);
  return mean.map((value) => value / length);
}

describe('what a site sends', () => {
  test('is no longer than its images, and a subject with many photographs counts as one', () => {
    const photos = photographs(30, 1);
    const rows = sumsOf(photos);
    const lengths = classes.map((_, label) => norm(row(floatTensor([3, size], rows), label)));

    expect(lengths.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(1);
    const [first] = photos;
    const doubled = sumsOf([...photos, first!, first!], { divisor: photos.length });
    const own = photos.filter(({ subject }) => subject === first!.subject);
    expect(own.length).toBe(5);
    // The subject's mean moves towards the photograph that is there three times, by less than one subject.
    expect(norm(doubled.map((value, i) => value - rows[i]!))).toBeLessThan(2 / photos.length);
  });

  test.each([
    [5, [false, true, true]],
    [4, [true, true, true]],
  ])('leaves a class with fewer than %i subjects out as a whole', (smallCell, sent) => {
    const photos = photographs(30, 2).filter(({ label, subject }) => label > 0 || subject < 12);
    const rows = floatTensor([3, size], sumsOf(photos, { smallCell }));

    expect(classes.map((_, label) => norm(row(rows, label)) > 0)).toEqual(sent);
  });

  test('is nothing for an embedding without a direction', () => {
    const sums = prototypeSums({ classes: 1, size: 2 });

    expect(sums.add(Float32Array.of(0, 0), 0, 1)).toBe(false);
    expect(sums.add(Float32Array.of(Number.NaN, 1), 0, 1)).toBe(false);
  });
});

describe('the merged head', () => {
  const photos = photographs(60, 3);
  const splits: [string, (photo: Photo) => string][] = [
    ['all at one site', () => 'x'],
    ['by subject at three', ({ subject }) => String((subject % 7) % 3)],
    ['a class at each', ({ label }) => String(label)],
    ['one subject alone', ({ subject }) => (subject === 4 ? 'one' : 'rest')],
  ];

  test.each(splits)('has the direction of the mean over all subjects: %s', async (_how, siteOf) => {
    const updates = [...Map.groupBy(photos, siteOf)].map(([id, own]) => updateOf(id, own));
    const { state } = await aggregateOnce(config, base, 0, start, updates);
    const reversed = await aggregateOnce(config, base, 0, start, updates.toReversed());

    const weight = state.head.get('weight')!;
    for (const label of classes.keys()) {
      const mine = row(weight, label);
      const expected = centralMean(photos, label);
      const cosine = mine.reduce((sum, value, i) => sum + value * expected[i]!, 0) / norm(mine);
      expect(cosine).toBeGreaterThan(1 - 1e-6);
      expect(norm(mine)).toBeCloseTo(Math.sqrt(size), 4);
    }
    expect(state.head.get('bias')!.data.every((value) => value === 0)).toBe(true);
    reversed.state.head.get('weight')!.data.forEach((value, i) => {
      expect(value).toBeCloseTo(weight.data[i]!, 5);
    });
    expect(state.lora).toEqual(start.lora);
  });

  test.each<[string, object, object, number]>([
    ['in the range where their loss is low', {}, { embeddingLength: 6 }, 48 / 6],
    ['with the gain of the base', {}, { embeddingLength: 6, headGain: 4 }, 48 / 24],
    ['by the size where nobody measured', {}, {}, Math.sqrt(size)],
    [
      'by the size where the head scales its cosines',
      { head: 'cosine' },
      { embeddingLength: 6 },
      Math.sqrt(size),
    ],
  ])('begins with logits %s', (_how, training, measured, expected) => {
    const rows = headOf(sumsOf(photos));
    const chosen = { ...config, training: { ...config.training, ...training } };

    const weight = headFromSums(rows, chosen, { ...base, ...measured }).get('weight')!;

    for (const label of classes.keys()) expect(norm(row(weight, label))).toBeCloseTo(expected, 4);
  });

  test('has a random row, the same everywhere, for a class that nobody could send', async () => {
    const own = photos.filter(({ label }) => label > 0);
    const merge = async () =>
      (await aggregateOnce(config, base, 0, start, [updateOf('x', own)])).state.head.get('weight')!;
    const [one, again] = [await merge(), await merge()];

    expect(norm(row(one, 0))).toBeCloseTo(Math.sqrt(size), 4);
    expect(row(one, 0)).toEqual(row(again, 0));
    expect(row(one, 0)).not.toEqual(
      row(
        headFromSums(headOf(new Float32Array(3 * size)), { ...config, seed: config.seed + 1 }, base).get(
          'weight',
        )!,
        0,
      ),
    );
  });

  test('is not decided by a site that claims ten million images', async () => {
    const capped = { ...config, weightCap: 3 };
    const liar = { ...updateOf('liar', photographs(30, 99)), examples: 10_000_000 };
    const honest = ['1', '2', '3', '4', '5'].map((id) =>
      updateOf(
        id,
        photos.filter(({ subject }) => String((subject % 5) + 1) === id),
      ),
    );
    const { state } = await aggregateOnce(capped, base, 0, start, [...honest, liar]);

    for (const label of classes.keys()) {
      const mine = row(state.head.get('weight')!, label);
      const expected = centralMean(photos, label);
      const cosine = mine.reduce((sum, value, i) => sum + value * expected[i]!, 0) / norm(mine);
      expect(cosine).toBeGreaterThan(0.7);
    }
  });

  test.each([
    ['multiplied', 6],
    ['not divided', photos.length],
  ])('never sees sums that are %s: they would count for more images', (_what, factor) => {
    const state = { ...start, head: headOf(sumsOf(photos).map((value) => value * factor)) };

    expect(() => checkUpdate(state, { base, global: start, plan, trained: [] })).toThrow('class means');
    expect(() =>
      checkUpdate({ ...start, head: headOf(sumsOf(photos)) }, { base, global: start, plan, trained: [] }),
    ).not.toThrow();
  });
});

describe('a run from class means', () => {
  test('has a round for them, and then the rounds of one that is shorter by it', () => {
    const strategy = getStrategy('sa-fedlora');
    const { headStart: _none, ...without } = config;
    const plans = Array.from({ length: config.rounds }, (_, round) => strategy.configureTrain(config, round));

    expect(preparingRounds(config)).toBe(1);
    expect(plans[0]).toMatchObject({
      mode: 'prototypes',
      sends: 'none',
      trains: 'none',
      rank: plans[1]!.rank,
    });
    expect(plans.slice(1)).toEqual(
      plans.slice(1).map((_, round) => ({
        ...strategy.configureTrain({ ...without, rounds: config.rounds - 1 }, round),
        round: round + 1,
      })),
    );
  });

  const complete = (changes: object) =>
    completeRunConfig({ baseId: base.id, classes: ['a', 'b'], ...changes } as never, base, 3);

  test.each<[string, object, string]>([
    ['where nothing is said', {}, 'prototypes'],
    ['not where the head stays at its site', { localHead: true }, 'random'],
    [
      'not under noise, which would drown them',
      { privacy: { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } },
      'random',
    ],
    ['not where no round can be spared', { rounds: 1, initiatingRounds: 0, coolingRounds: 0 }, 'random'],
    [
      'not where the schedule takes all rounds',
      { rounds: 3, initiatingRounds: 2, coolingRounds: 1 },
      'random',
    ],
    ['for any strategy', { strategy: 'fedavg-full', rounds: 2 }, 'prototypes'],
    ['unless a person says otherwise', { headStart: 'random' }, 'random'],
  ])('is the default %s', (_when, changes, headStart) => {
    expect(complete(changes)).toMatchObject({ headStart, gallery: 'ends' });
  });

  test.each<[string, object, RegExp]>([
    [
      'a head of its own at each site',
      { headStart: 'prototypes', localHead: true },
      /"headStart".*"localHead"/,
    ],
    [
      'a single round',
      { headStart: 'prototypes', rounds: 1, strategy: 'fedavg-lora' },
      /"headStart".*"rounds"/,
    ],
    [
      'a schedule without room',
      { headStart: 'prototypes', rounds: 3, initiatingRounds: 2, coolingRounds: 1 },
      /take 3 rounds and the start of the classifier one/,
    ],
  ])('does not go with %s', (_what, changes, message) => {
    expect(() => complete(changes)).toThrow(message);
  });
});
