/** What a policy says about the very images that a round would train on. */
import { describe, expect, test } from 'vitest';
import { defaultRunConfig, type RunConfig } from '../../core/config/run-config.ts';
import { defaultSitePolicy, type SitePolicy } from '../../core/config/site-policy.ts';
import { admit } from '../../core/policy/cohort-rules.ts';
import { openPolicy } from '../../core/simulation/policies.ts';

const { training } = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });
const config = (change: Partial<RunConfig> = {}) =>
  defaultRunConfig({
    ...{ baseId: 'base', baseSha256: 'ab'.repeat(32), classes: ['a', 'b', 'c'] },
    training: { ...training, batchSize: 4, epochs: 1 },
    ...change,
  });

/** So many subjects of a class, each with so many images. */
const imagesOf = (label: string, subjects: number, each: number, first = 0) =>
  Array.from({ length: subjects * each }, (_, index) => ({
    label,
    subjectId: first + Math.floor(index / each),
  }));

const decide = (
  images: ReturnType<typeof imagesOf>,
  change: Partial<RunConfig> = {},
  policy: Partial<SitePolicy> = {},
) => admit(images, config(change), { ...defaultSitePolicy, ...policy });

const noise = (noiseMultiplier: number, at: 'site' | 'coordinator' = 'site') => ({
  privacy: { at, clipNorm: 1, noiseMultiplier, delta: 1e-5 },
});
const common = [...imagesOf('a', 4, 5), ...imagesOf('b', 3, 5, 10)];
const rare = imagesOf('c', 2, 3, 20);

describe('a class with too few subjects', () => {
  test('does not train; the others do', () => {
    const { images, leftOut, refusal } = decide([...common, ...rare]);

    expect(images).toEqual(common);
    expect(leftOut).toEqual([{ label: 'c', subjects: 2 }]);
    expect(refusal).toBeNull();
  });

  test('is counted by its subjects, not by its images', () => {
    expect(decide([...common, ...imagesOf('c', 2, 50, 20)]).leftOut).toEqual([{ label: 'c', subjects: 2 }]);
    expect(decide([...common, ...imagesOf('c', 3, 1, 20)]).leftOut).toEqual([]);
  });

  test.each<[string, Partial<RunConfig>, Partial<SitePolicy>, boolean]>([
    ['noise at the site', noise(1), {}, true],
    ['little noise at the site', noise(0.4), {}, false],
    ['noise at the coordinator', noise(1, 'coordinator'), {}, false],
    ['noise at the site, but two are asked for', noise(1), { minProtectedSubjectsPerClass: 3 }, false],
    // A rule for what is protected never asks for more than that for what is not.
    [
      'noise, under a policy that asks for one in any case',
      noise(1),
      { minSubjectsPerClass: 1, minProtectedSubjectsPerClass: 3 },
      true,
    ],
  ])('trains where one is enough: %s', (_what, change, policy, trains) => {
    expect(decide([...common, ...rare], change, policy).images.includes(rare[0]!)).toBe(trains);
  });
});

describe('a site does not train', () => {
  test.each<[string, Parameters<typeof decide>, string, RegExp]>([
    ['with nothing', [[]], 'NOT_ENOUGH_DATA', /No image with an active consent/],
    ['with no class of enough subjects', [rare], 'POLICY_REFUSED', /3 subjects in each class that trains/],
    [
      'with four subjects',
      [imagesOf('a', 4, 20)],
      'POLICY_REFUSED',
      /at least 5 subjects in a round; this run finds 4/,
    ],
    [
      // Those of a class that does not train do not count.
      'with five subjects of whom two are in a rare class',
      [[...imagesOf('a', 3, 20), ...rare]],
      'POLICY_REFUSED',
      /finds 3/,
    ],
    [
      'with one subject in two classes who makes up the number',
      [[...imagesOf('a', 4, 10), ...imagesOf('b', 4, 10)]],
      'POLICY_REFUSED',
      /finds 4/,
    ],
    [
      'with images for seven steps',
      [imagesOf('a', 7, 4)],
      'POLICY_REFUSED',
      /at least 8 steps per round; this run takes 7 with the 28 images/,
    ],
  ])('%s', (_what, parameters, code, message) => {
    expect(decide(...parameters).refusal).toMatchObject({ code, message: expect.stringMatching(message) });
  });
});

describe('a site trains', () => {
  test.each<[string, Parameters<typeof decide>]>([
    ['with five subjects and eight steps', [imagesOf('a', 5, 6)]],
    [
      'with few images and more epochs',
      [imagesOf('a', 5, 2), { training: { ...training, batchSize: 4, epochs: 3 } }],
    ],
    ['with anything under the open policy', [imagesOf('a', 1, 1), {}, openPolicy]],
  ])('%s', (_what, parameters) => {
    expect(decide(...parameters).refusal).toBeNull();
  });
});
