import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addRunOptions, readRunOptions } from '../../core/cli/run-options.ts';
import type { RunSettings } from '../../core/config/run-config.ts';
import { strategyNameSchema } from '../../core/config/setting.ts';
import { completeRunConfig, parseRunSettings } from '../../core/coordinator/run-settings.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';

let base: BaseModel;
let folder: string;
beforeAll(async () => {
  base = await loadBaseModel('face-resnet-128');
  folder = await mkdtemp(join(tmpdir(), 'anneal-settings-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const classes = ['a', 'b'];
const names = ['North', 'South', 'East', 'West', 'Hill', 'Lake'];
const complete = (settings: RunSettings) =>
  completeRunConfig({ classes, ...settings }, base, names.length, names);

describe('settings of a run', () => {
  test('nothing said: everybody trains, fp32, two thirds make the quorum', () => {
    expect(complete({})).toMatchObject({
      strategy: 'sa-fedlora',
      quorum: 4,
      participation: 1,
      weighting: 'examples',
      weightCap: 3,
      wire: { up: 'fp32', down: 'fp32', errorFeedback: false },
      privacy: null,
      robust: { rule: 'norm-bound', factor: 2 },
    });
  });

  test.each<[number, number]>([
    [1, 1],
    [2, 2],
    [3, 3],
    [4, 3],
    [5, 4],
    [9, 6],
  ])('of %i sites %i are the quorum, and three are enough for the norm bound', (sites, quorum) => {
    const config = completeRunConfig({ classes }, base, sites);

    expect(config.quorum).toBe(quorum);
    expect(config.robust.rule).toBe(sites >= 3 ? 'norm-bound' : 'mean');
  });

  test.each<[string, RunSettings, object]>([
    ['a quorum of two', { quorum: 2 }, { robust: { rule: 'mean' } }],
    [
      'no limit for what sites claim',
      { weightCap: null },
      { robust: { rule: 'mean' }, weighting: 'examples' },
    ],
    ['equal weights', { weightCap: null, weighting: 'equal' }, { robust: { rule: 'norm-bound' } }],
    ['a plain mean', { robust: { rule: 'mean' } }, { robust: { rule: 'mean' }, weightCap: 3, quorum: 4 }],
    ['a norm bound', { robust: { rule: 'norm-bound', factor: 5 } }, { weighting: 'examples', weightCap: 3 }],
    [
      'a norm bound without a limit',
      { robust: { rule: 'norm-bound', factor: 5 }, weightCap: null },
      { weighting: 'equal' },
    ],
    ...strategyNameSchema.options.map((strategy): [string, RunSettings, object] => [
      strategy,
      { strategy },
      { robust: { rule: 'norm-bound' } },
    ]),
  ])('protection by default, where somebody asks for %s', (_name, settings, expected) => {
    expect(complete(settings)).toMatchObject(expected);
  });

  test.each<[string, RunSettings, object]>([
    ['a draw', { participation: 0.5 }, { quorum: 3, robust: { rule: 'norm-bound' } }],
    ['a draw of two', { participation: 0.3 }, { quorum: 2, robust: { rule: 'mean' } }],
    [
      'noise at the coordinator',
      {
        strategy: 'ffa-lora',
        privacy: { at: 'coordinator', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 },
      },
      { weighting: 'equal', robust: { rule: 'mean' } },
    ],
    [
      'multi-Krum',
      { strategy: 'fedavg-lora', robust: { rule: 'multi-krum', byzantine: 1 } },
      { weighting: 'equal', quorum: 5 },
    ],
    ['a site of its own rank', { strategy: 'hetlora', siteRanks: { Lake: 2 } }, { siteRanks: { Lake: 2 } }],
  ])('what follows from %s', (_name, settings, expected) => {
    expect(complete(settings)).toMatchObject(expected);
  });

  test.each<[string, RunSettings, RegExp]>([
    ['an unknown site', { strategy: 'hetlora', siteRanks: { Moon: 2 } }, /"siteRanks" names the site "Moon"/],
    [
      'a quorum beyond the draw',
      { participation: 0.3, quorum: 3 },
      /quorum is 3 sites, but a participation of 0.3 draws only 2 of 6/,
    ],
    [
      'weights that a hostile site may choose',
      { strategy: 'fedavg-lora', robust: { rule: 'median' }, weighting: 'examples' },
      /"robust.rule" \(median\) and "weighting" \(examples\)/,
    ],
    ['ranks upside down', { rMax: 2, rMin: 4 }, /rMin.*larger/],
    ['a share of nothing', { participation: 0 }, /"participation" is invalid/],
  ])('refused: %s', (_name, settings, message) => {
    expect(() => complete(settings)).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringMatching(message) }),
    );
  });

  test('noise on all weights is refused where it would fall on the statistics of a batch normalisation', () => {
    const plain = shapeOnlyBase();
    const weights = new Map(plain.weights);
    for (const name of ['scale', 'bias', 'mean', 'variance']) weights.set(`norm.${name}`, floatTensor([3]));
    const normalised: BaseModel = {
      ...plain,
      weights,
      buildGraph(batch) {
        const builder = new GraphBuilder();
        const pixels = builder.input('pixels', 'float32', [batch, 3, 8, 8]);
        const [scale = '', bias = '', mean = '', variance = ''] = ['scale', 'bias', 'mean', 'variance'].map(
          (name) => builder.constant(weights.get(`norm.${name}`)!, `norm.${name}`),
        );
        builder.output(
          builder.append1('BatchNormalization', [pixels, scale, bias, mean, variance]),
          'embedding',
        );
        return builder.build();
      },
    };
    const privacy = { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const;
    const settingsOn = (on: BaseModel, settings: RunSettings) => () =>
      completeRunConfig({ classes, ...settings }, on, names.length, names);

    expect(settingsOn(normalised, { strategy: 'fedavg-full', privacy })).toThrow(/batch normalisation/);
    expect(settingsOn(normalised, { initiatingMode: 'full', privacy })).toThrow(/batch normalisation/);
    expect(settingsOn(normalised, { strategy: 'fedavg-full' })).not.toThrow();
    expect(settingsOn(normalised, { strategy: 'ffa-lora', privacy })).not.toThrow();
    expect(settingsOn(plain, { strategy: 'fedavg-full', privacy })).not.toThrow();
  });

  test.each<[unknown, RegExp]>([
    [{ particpation: 0.5 }, /no setting "particpation"/],
    [{ training: { batchsize: 4 } }, /no setting "training.batchsize"/],
    [{ wire: { up: 'int4' } }, /"wire.up" is invalid/],
    [{ robust: { rule: 'median', share: 0.2 } }, /no setting "robust.share"/],
    ['rounds: 3', /text as a whole/],
  ])('a misspelt file: %j', (written, message) => {
    expect(() => parseRunSettings(written, 'run.yaml')).toThrow(message);
  });
});

describe('options of the command line', () => {
  async function read(...args: string[]): Promise<RunSettings> {
    const command = addRunOptions(new Command().exitOverride());
    return readRunOptions(command.parse(args, { from: 'user' }).opts());
  }

  test('come before those of the file and leave the rest of a group as it is', async () => {
    const file = join(folder, 'run.yaml');
    await writeFile(
      file,
      [
        'strategy: fedavg-lora',
        'rounds: 9',
        'wire: { up: int8, down: fp16 }',
        'privacy: { at: site, clipNorm: 2, noiseMultiplier: 0.5 }',
        'robust: { rule: norm-bound, factor: 3 }',
        'training: { epochs: 2 }',
      ].join('\n'),
    );

    const settings = await read(
      ...[
        '--config',
        file,
        '--rounds',
        '4',
        '--error-feedback',
        '--clip-norm',
        '1',
        '--robust',
        'trimmed-mean',
      ],
      ...[
        '--trim-share',
        '0.3',
        '--server-optimiser',
        'adam',
        '--server-momentum',
        '0.8',
        '--batch-size',
        '4',
      ],
      ...['--site-ranks', 'North=2,South=4', '--participation', '0.5', '--classes', 'a, b'],
    );

    expect(settings).toMatchObject({
      strategy: 'fedavg-lora',
      rounds: 4,
      classes: ['a', 'b'],
      participation: 0.5,
      siteRanks: { North: 2, South: 4 },
      wire: { up: 'int8', down: 'fp16', errorFeedback: true },
      privacy: { at: 'site', clipNorm: 1, noiseMultiplier: 0.5, delta: 1e-5 },
      robust: { rule: 'trimmed-mean', share: 0.3 },
      serverOptimiser: { kind: 'adam', beta1: 0.8, beta2: 0.99 },
      training: { epochs: 2, batchSize: 4 },
    });
    expect(settings.robust).not.toHaveProperty('factor');
  });

  test('a value without the option that it belongs to is refused', async () => {
    await expect(read('--clip-norm', '1')).rejects.toThrow(/"privacy.at" is invalid/);
    await expect(read('--byzantine', '1')).rejects.toThrow(/"robust.*" is invalid/);
  });
});
