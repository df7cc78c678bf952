/** What the settings of a run say of themselves, and what is made from it. */
import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { settingsDocPath, settingsDocs, withSettingsTable } from '../../build/settings-docs.ts';
import { addRunOptions, flagOf, readRunOptions } from '../../core/cli/run-options.ts';
import {
  defaultRunConfig,
  describeSettings,
  runConfigSchema,
  runSettingList,
  runSettingsSchema,
} from '../../core/config/run-config.ts';
import {
  type Setting,
  type StrategyName,
  settingAt,
  strategiesThat,
  strategyNameSchema,
} from '../../core/config/setting.ts';
import { completeRunConfig } from '../../core/coordinator/run-settings.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import {
  changeSetting,
  initialSettings,
  isShown,
  offeredSettings,
  writtenSettings,
} from '../../renderer/api/run-settings.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';

const start = { baseId: 'base', baseSha256: 'ab'.repeat(32), classes: ['a', 'b'] };
const byPath = (path: string) => runSettingList.find((setting) => setting.path === path)!;

/** Of the first release, and of what came after it: a run without a setting has had this value. */
const released = {
  ...start,
  ...{ title: '', note: '', baseOrigin: '' },
  strategy: 'sa-fedlora',
  targetModules: 'default',
  rounds: 10,
  initiatingRounds: 2,
  initiatingMode: 'lora',
  lastK: 2,
  heatingRounds: 0,
  coolingRounds: 1,
  shape: 'cubic',
  allocation: 'uniform',
  cutOff: 'drop',
  freezeA: false,
  siteRanks: {},
  weighting: 'examples',
  weightCap: null,
  participation: 1,
  localHead: false,
  serverOptimiser: { kind: 'none' },
  wire: { up: 'fp32', down: 'fp32', errorFeedback: false },
  privacy: null,
  robust: { rule: 'mean' },
  rMax: 16,
  rMin: 2,
  loraScale: 2,
  training: {
    epochs: 1,
    batchSize: 16,
    learningRate: 2e-3,
    headLearningRate: 1e-2,
    baseLearningRate: 1e-4,
    weightDecay: 0.01,
    warmupShare: 0.1,
    clipNorm: 1,
    proximal: 0,
    augment: true,
    labelSmoothing: 0.05,
    logitAdjustment: false,
    optimiser: 'adamw',
    momentum: 0.9,
    nesterov: false,
    learningRateSchedule: 'cosine',
    classWeights: 'none',
    head: 'softmax',
    arcMargin: 0.3,
    arcScale: 16,
    loraDropout: 0,
  },
  proximal: 0.01,
  finalLearningRateShare: 1,
  seed: 1,
  quorum: 1,
  roundDeadlineMs: 30 * 60_000,
  purpose: 'federated-training',
  smallCell: 5,
};

describe('defaults', () => {
  test('are those that stored runs had, key by key', () => {
    expect(runConfigSchema.parse(start)).toStrictEqual(released);
    expect(defaultRunConfig(start)).toStrictEqual(released);
  });

  test('of the planning form are those of the coordinator', () => {
    const base = shapeOnlyBase();
    const { classes } = start;

    const planned = completeRunConfig(writtenSettings({ ...initialSettings(), classes }), base, 6);

    expect(planned).toStrictEqual(completeRunConfig({ classes }, base, 6));
  });

  test('are not filled into what a person wrote', () => {
    const few = { rounds: 3, training: { epochs: 2 } };
    expect(runSettingsSchema.parse(few)).toStrictEqual(few);
  });
});

describe('every setting', () => {
  test.each(runSettingList.map((setting) => [setting.path, setting] as const))(
    '%s has its words',
    (_path, setting) => {
      const { label, help, group, when, kind, choices, schema } = setting;
      expect(label).toMatch(/^\S.*[^.]$/);
      expect(help).toMatch(/^[\S].*\.$/);
      expect(group).toMatch(/^[A-Z]/);
      if (when !== undefined) {
        const other = byPath(when[0]);
        const names = [...Object.keys(other.choices ?? {}), 'undefined'];
        expect(names).toEqual(expect.arrayContaining(when.slice(1)));
      }
      if (kind === 'choice') {
        const { def } = (
          schema as unknown as { _zod: { def: { entries?: object; options?: { shape: object }[] } } }
        )._zod;
        expect(Object.keys(choices!)).toHaveLength(Object.keys(def.entries ?? def.options!).length);
      }
    },
  );

  test.each<[string, unknown]>([
    ['', { rondas: 3 }],
    ['training.', { training: { rondas: 3 } }],
    ['training.augment.', { training: { augment: { rondas: 3 } } }],
    ['wire.', { wire: { rondas: 3 } }],
    ['privacy.', { privacy: { at: 'site', clipNorm: 1, noiseMultiplier: 1, rondas: 3 } }],
    ['robust.', { robust: { rule: 'mean', rondas: 3 } }],
    ['serverOptimiser.', { serverOptimiser: { kind: 'adam', rondas: 3 } }],
  ])('%srondas is refused by the schemas themselves', (_path, written) => {
    expect(runSettingsSchema.safeParse(written).success).toBe(false);
    expect(runConfigSchema.safeParse({ ...start, ...(written as object) }).success).toBe(false);
  });
});

/** A value other than the default, as a person types it, and as it is read. */
function typed({ kind, path, choices, default: preset }: Setting): [string[], unknown] {
  switch (kind) {
    case 'choice': {
      const other = Object.keys(choices!).find((name) => name !== preset)!;
      return [[other], other];
    }
    case 'switch':
      return [[], true];
    case 'table':
      return [['North=3,South=4'], { North: 3, South: 4 }];
    case 'list':
    case 'names':
      return [['x, y'], ['x', 'y']];
    case 'text':
      return [['word'], 'word'];
    case 'integer':
      return [['3'], 3];
    default:
      if (path === 'weightCap') return [['2.5'], 2.5];
      return path === 'robust.share' ? [['0.4'], 0.4] : [['0.5'], 0.5];
  }
}

/** The choice that brings a setting, with what that choice demands. */
function chosen({ when, path }: Setting): string[] {
  const privacy = ['--privacy', 'site', '--clip-norm', '1', '--noise-multiplier', '1'];
  if (path.startsWith('privacy.')) return privacy;
  if (path === 'robust.rule') return [];
  if (when === undefined) return [];
  return [`--${byPath(when[0]).flag ?? flagOf(when[0])}`, when.at(-1)!];
}

describe('options of the command line', () => {
  const withFlag = runSettingList.filter(({ flag }) => flag !== null);

  test.each(withFlag.map((setting) => [setting.path, setting] as const))(
    '%s has one',
    async (_path, setting) => {
      const [args, value] = typed(setting);
      const command = addRunOptions(new Command().exitOverride());
      const flag = `--${setting.flag ?? flagOf(setting.path)}`;

      const read = readRunOptions(
        command.parse([...chosen(setting), flag, ...args], { from: 'user' }).opts(),
      );

      expect(settingAt(await read, setting.path)).toEqual(value);
    },
  );
});

describe('the planning form', () => {
  test('shows what means something, and what says more than its default', () => {
    const shown = (change: object) => {
      const values = { ...initialSettings(), ...change };
      return offeredSettings.filter((setting) => isShown(setting, values)).map(({ path }) => path);
    };
    expect(shown({})).toEqual(expect.arrayContaining(['cutOff', 'training.optimiser', 'loraScale']));
    expect(shown({})).not.toEqual(expect.arrayContaining(['training.momentum']));
    expect(shown({ training: { ...initialSettings().training, optimiser: 'sgd' } })).toContain(
      'training.momentum',
    );
    expect(shown({ strategy: 'head-only' })).not.toContain('loraScale');
    expect(shown({ strategy: 'head-only', loraScale: 3 })).toContain('loraScale');
    expect(shown({ initiatingMode: 'last-k' })).toContain('lastK');
    expect(shown({ initiatingMode: 'last-k', initiatingRounds: 0 })).not.toContain('lastK');
  });

  test('a branch begins with its own values; a group that stays keeps its own', () => {
    const values = initialSettings();
    const change = (path: string, value: unknown) =>
      Object.assign(values, changeSetting(values, byPath(path), value));
    change('serverOptimiser.kind', 'adam');
    expect(values.serverOptimiser).toEqual({
      kind: 'adam',
      learningRate: 0.01,
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-3,
    });
    change('robust.rule', 'multi-krum');
    expect(values.robust).toEqual({ rule: 'multi-krum', byzantine: 1 });
    change('privacy.at', 'site');
    change('privacy.clipNorm', 3);
    change('privacy.at', 'coordinator');
    expect(values.privacy).toEqual({ at: 'coordinator', clipNorm: 3, noiseMultiplier: 1, delta: 1e-5 });
    expect(values.weighting).toBe('equal');
    change('training.optimiser', 'sgd');
    expect(values.training).toEqual({ ...released.training, optimiser: 'sgd' });
    expect(
      runSettingsSchema.safeParse(writtenSettings({ ...values, classes: ['a', 'b'], quorum: undefined }))
        .success,
    ).toBe(true);
  });
});

describe('settings in words', () => {
  const words = (change: object) =>
    new Map(
      describeSettings(defaultRunConfig({ ...start, ...change })).map(({ label, value }) => [label, value]),
    );

  test('name what means something in the run, with units and names for people', () => {
    const lines = words({ siteRanks: { North: 2 }, robust: { rule: 'trimmed-mean', share: 0.3 } });
    expect(lines.get('Method')).toBe('SA-FedLoRA (annealed rank)');
    expect(lines.get('Precision of updates')).toBe('Exact (32 bits)');
    expect(lines.get('Noise')).toBe('None');
    expect(lines.get('Trimmed share')).toBe('30 %');
    expect(lines.get('Round deadline')).toBe('30 minutes');
    expect(lines.get('Largest ranks of individual sites')).toBe('North 2');
    expect(lines.get('Augment the images')).toBe('on');
    expect(lines.has('Momentum')).toBe(false);
  });

  test('leave out what the strategy has not', () => {
    const lines = words({ strategy: 'head-only' });
    expect(lines.has('Largest rank')).toBe(false);
    expect(lines.has('Rounds')).toBe(true);
  });
});

test.each(Object.keys(settingsDocs))('the table of docs/%s is that of the settings', async (name) => {
  const text = await readFile(settingsDocPath(name), 'utf8');
  expect(text, 'run "node build/settings-docs.ts"').toBe(withSettingsTable(name, text));
});

test('which strategies a setting suits is what their traits and plans say', () => {
  const those = (holds: (name: StrategyName) => boolean) => strategyNameSchema.options.filter(holds).sort();
  const trainsWeights = (name: StrategyName) => {
    const config = defaultRunConfig({ ...start, strategy: name, initiatingMode: 'full' });
    return ['full', 'last-k'].includes(getStrategy(name).configureTrain(config, 0).mode);
  };
  const pulls = (name: StrategyName) => {
    const config = defaultRunConfig({ ...start, strategy: name, proximal: 1 });
    return getStrategy(name).configureTrain(config, 0).proximal > 0;
  };

  const { anneal, haveFactors, takeSiteRanks, trainBaseWeights, pull } = strategiesThat;
  expect([...anneal].sort()).toEqual(those((name) => getStrategy(name).traits({ freezeA: false }).anneals));
  expect([...takeSiteRanks].sort()).toEqual(
    those((name) => getStrategy(name).traits({ freezeA: false }).siteRanks),
  );
  expect([...haveFactors].sort()).toEqual(those((name) => getStrategy(name).adaptsLayers));
  expect([...trainBaseWeights].sort()).toEqual(those(trainsWeights));
  expect([...pull].sort()).toEqual(those(pulls));
});
