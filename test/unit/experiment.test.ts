import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { defaultSitePolicy } from '../../core/config/site-policy.ts';
import { parseExperiment, readExperiment } from '../../core/simulation/experiment.ts';
import { openPolicy } from '../../core/simulation/policies.ts';

const lines = [
  'data: {faces: {subjects: 20}}',
  'sites: [2, 3]',
  'partitions:',
  '  - iid',
  '  - dirichlet: 0.5',
  '  - shards: 2',
  '  - column: clinic',
  'seeds: [1, 2]',
  'settings:',
  '  rounds: 3',
  '  training:',
  '    epochs: 2',
  'strategies:',
  '  - fedavg-lora',
  '  - name: small',
  '    strategy: sa-fedlora',
  '    settings:',
  '      rMax: 4',
];
const text = lines.join('\n');
/** The example with one line replaced (0-based). */
const changed = (index: number, line: string) => lines.with(index, line).join('\n');

describe('parseExperiment', () => {
  test('understands short and long forms, and keeps settings as they were written', () => {
    const experiment = parseExperiment(text, 'e.yaml');

    expect(experiment.partitions).toEqual([
      { kind: 'iid' },
      { kind: 'dirichlet', alpha: 0.5 },
      { kind: 'shards', perSite: 2 },
      { kind: 'column', column: 'clinic' },
    ]);
    expect(experiment.sites).toEqual([2, 3]);
    expect(experiment.base).toEqual({ id: 'face-resnet-128' });
    expect(experiment.strategies[0]).toEqual({ strategy: 'fedavg-lora', settings: {} });
    // No default of the schema may take the place of a common setting later.
    expect(experiment.strategies[1]!.settings).toEqual({ rMax: 4 });
    expect(experiment.settings).toEqual({ rounds: 3, training: { epochs: 2 } });
  });

  test("knows policies by name, or rule by rule over the default; a hospital's own holds where none is stated", () => {
    const policyOf = (line?: string) =>
      parseExperiment(line === undefined ? text : `${text}\n${line}`, 'e.yaml').policy;

    expect(policyOf()).toEqual(defaultSitePolicy);
    expect(policyOf('policy: default')).toEqual(defaultSitePolicy);
    expect(policyOf('policy: open')).toEqual(openPolicy);
    expect(policyOf('policy: {minSubjects: 2}')).toEqual({ ...defaultSitePolicy, minSubjects: 2 });
    expect(() => policyOf('policy: closed')).toThrow(/line 19: "policy"/);
    expect(() => policyOf('policy: {minSubject: 2}')).toThrow(/line 19: /);
  });

  test.each([
    ['a wrong value in a strategy', 17, '      rMax: -1', /line 18: "strategies\.1\.settings\.rMax"/],
    ['a misspelt setting', 11, '    epoch: 2', /line 12: "epoch" is not a setting/],
    ['a setting that the experiment decides', 9, '  baseId: other', /line 10: "baseId" is not a setting/],
    ['an unknown key', 7, 'seed: 1', /line 8: "seed" is not a setting/],
    ['an unknown strategy', 13, '  - fedavg', /line 14: "strategies\.0\.strategy"/],
    ['a partition without meaning', 5, '  - random', /line 6: "partitions\.2": is not one of/],
    ['a partition with a wrong number', 4, '  - dirichlet: 0', /line 5: "partitions\.1"/],
    ['no sites', 1, 'sites: 0', /line 2: "sites\.0"/],
    [
      'images without labels',
      0,
      'data: {images: here}',
      /line 1: "data": "images" and "labels" must be given together/,
    ],
    ['two strategies of one name', 14, '  - name: fedavg-lora', /line 15: two strategies are called/],
    ['text that is no YAML', 2, 'partitions: [', /line \d+: /],
  ])('names the line of %s', (_what, index, line, message) => {
    let thrown: unknown;
    try {
      parseExperiment(changed(index, line), 'e.yaml');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/^e\.yaml, line/),
    });
    expect((thrown as Error).message).toMatch(message);
  });

  test('an empty file lacks everything, and says so', () => {
    expect(() => parseExperiment('', 'e.yaml')).toThrow(/e\.yaml, line 1: "data"/);
  });
});

test('readExperiment takes paths from the file and names the results after it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-experiment-'));
  try {
    const file = join(folder, 'quick.yaml');
    await writeFile(file, changed(0, 'data: {images: images, labels: images/labels.csv}'));

    const experiment = await readExperiment(file);

    expect(experiment).toMatchObject({
      name: 'quick',
      out: join(folder, 'quick-results'),
      data: { images: join(folder, 'images'), labels: join(folder, 'images/labels.csv') },
    });
    await expect(readExperiment(join(folder, 'none.yaml'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
