import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { defaultRunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { compileModuleSelector, compilePatternTable, endsWithName } from '../../core/lora/module-pattern.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { presetNames, resolveTargetModules } from '../../core/models/target-modules.ts';
import { createVit } from '../../core/models/vit.ts';
import { vitTiny } from '../../core/models/vit-config.ts';
import {
  checkLoraSettings,
  highestRank,
  layerRanks,
  layerScales,
} from '../../core/strategy/lora-settings.ts';
import { planRun } from '../../core/strategy/plan.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { randomVitWeights } from '../fixtures/base-models.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';

const config = { ...vitTiny, imageSize: 32, hiddenSize: 12, heads: 2, layers: 3, mlpSize: 24 };
const vit = createVit(config, randomVitWeights(config, 1));
const base = shapeOnlyBase();
const modulesOf = (...args: [string | string[], (string | string[])?]) =>
  resolveTargetModules(vit, ...args).map((layer) => layer.module);
const invalid = (message: RegExp) =>
  expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringMatching(message) });

describe('target modules', () => {
  it.each<[string, string | string[], string[]]>([
    ['the full name', ['blocks.1.attn.q'], ['blocks.1.attn.q']],
    ['the last parts', ['attn.q'], ['blocks.0.attn.q', 'blocks.1.attn.q', 'blocks.2.attn.q']],
    ['one name that is no list', 'attn.q', ['blocks.0.attn.q', 'blocks.1.attn.q', 'blocks.2.attn.q']],
    [
      'several, in the order of the base',
      ['blocks.1.attn.v', 'blocks.0.attn.k'],
      ['blocks.0.attn.k', 'blocks.1.attn.v'],
    ],
    [
      'a pattern for whole names',
      'blocks\\.[01]\\.attn\\.(q|v)',
      ['blocks.0.attn.q', 'blocks.0.attn.v', 'blocks.1.attn.q', 'blocks.1.attn.v'],
    ],
  ])('are named by %s', (_what, target, expected) => {
    expect(modulesOf(target)).toEqual(expected);
  });

  it('are named by sets that every base has', () => {
    expect(resolveTargetModules(base, 'conv').map((layer) => layer.module)).toEqual([
      'stem.conv',
      'body.conv',
    ]);
    expect(resolveTargetModules(base, 'all-linear').map((layer) => layer.module)).toEqual(['body.q']);
    expect(modulesOf('all')).toHaveLength(18);
    expect(presetNames(vit)).not.toContain('conv');
  });

  it.each<[string, string | string[], string[]]>([
    ['a name', 'attn.q', ['blocks.0.attn.v', 'blocks.1.attn.v', 'blocks.2.attn.v']],
    ['names', ['blocks.0.attn.q', 'attn.v'], ['blocks.1.attn.q', 'blocks.2.attn.q']],
    ['a pattern', 'blocks\\.[0-1]\\..*', ['blocks.2.attn.q', 'blocks.2.attn.v']],
  ])('leave out what %s excludes', (_what, excluded, expected) => {
    expect(modulesOf(['attn.q', 'attn.v'], excluded)).toEqual(expected);
  });

  it.each<[string, string | string[], string | undefined, RegExp]>([
    ['an unknown name', ['attn.x'], undefined, /no module "attn.x"/],
    ['a name that is only the end of one', ['ttn.q'], undefined, /no module "ttn.q"/],
    ['a set that is not there', 'conv', undefined, /"conv"; its sets are/],
    ['a pattern that matches nothing', 'attn\\.(q|v)', undefined, /No layer .* matches the pattern/],
    ['a pattern that is none', 'attn.(q', undefined, /cannot be read: missing closing \)/],
    ['back-references', '(a)\\1', undefined, /cannot be read/],
    ['look-ahead', '(?=b)blocks.*', undefined, /cannot be read/],
    ['a long pattern', `(${'a'.repeat(300)})`, undefined, /302 characters; at most 256/],
    ['nothing left', 'attn.q', 'blocks.*', /leaves no layer/],
  ])('refuse %s', (_what, target, excluded, message) => {
    expect(() => resolveTargetModules(vit, target, excluded)).toThrow(invalid(message));
  });

  it('follow the suffix rule for any names', () => {
    const part = fc.stringMatching(/^[a-z0-9]{1,4}$/);
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), fc.nat(), (parts, cut) => {
        const name = parts.join('.');
        const suffix = parts.slice(cut % parts.length).join('.');
        expect(endsWithName(name, suffix)).toBe(true);
        expect(endsWithName(`x${name}`, name)).toBe(false);
        expect(compileModuleSelector([suffix], 'targetModules')(name)).toBe(true);
      }),
    );
  });

  it('answer a pattern that takes exponential time elsewhere', () => {
    const matches = compileModuleSelector('((a+)+)+b', 'targetModules');
    expect(matches('a'.repeat(5000))).toBe(false);
  });
});

describe('rank and alpha patterns', () => {
  it('match names, their ends and expressions; in PEFT the first entry counts', () => {
    const find = compilePatternTable(
      [
        ['^q', 1],
        ['attn.q', 2],
        ['.*fc[12]', 3],
      ],
      'rank_pattern',
    );
    expect(['q', 'a.q', 'a.attn.q', 'm.fc2', 'm.fc22'].map(find)).toEqual([1, undefined, 2, 3, undefined]);
  });

  it('shrink with the schedule, never grow and start and end where they should', () => {
    const rank = fc.integer({ min: 1, max: 256 });
    fc.assert(
      fc.property(rank, rank, rank, (rMax, own, r) => {
        const settings = { rMax, rankPattern: { q: own } };
        const at = (planned: number) => layerRanks(settings, planned)('block.q');
        expect(at(rMax)).toBe(own);
        expect(at(0)).toBe(0);
        const planned = Math.min(r, rMax);
        expect(at(planned)).toBeGreaterThanOrEqual(1);
        expect(at(planned)).toBeLessThanOrEqual(own);
        expect(at(Math.max(1, planned - 1))).toBeLessThanOrEqual(at(planned));
        expect(layerRanks(settings, planned)('block.k')).toBe(planned);
      }),
    );
  });

  it('take the most specific key, in whatever order the table arrives', () => {
    const tables = [
      { q: 2, 'blocks.1.attn.q': 5 },
      { 'blocks.1.attn.q': 5, q: 2 },
    ];
    for (const rankPattern of tables)
      expect(layerRanks({ rMax: 8, rankPattern }, 8)('blocks.1.attn.q')).toBe(5);
    expect(highestRank({ rMax: 4, rankPattern: { q: 9 } })).toBe(9);
  });

  it('scale by alpha / r, by alpha / √r, or as fixed', () => {
    const settings = { loraScale: 2, loraAlpha: 8, alphaPattern: { q: 4 } };
    expect(layerScales(settings)('k', 4)).toBe(2);
    expect(layerScales({ ...settings, loraScaling: 'alpha' })('k', 4)).toBe(2);
    expect(layerScales({ ...settings, loraScaling: 'alpha' })('a.q', 16)).toBe(0.25);
    expect(layerScales({ ...settings, loraScaling: 'rslora' })('a.q', 16)).toBe(1);
    expect(() => layerScales({ loraScale: 2, loraScaling: 'alpha' })).toThrow(invalid(/loraAlpha/));
  });
});

describe('a run', () => {
  const start = { baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'] };
  const settings = (more: object) => defaultRunConfig({ ...start, ...more });

  it('gives each layer its own rank and scale, and plans as many values as its state holds', () => {
    const run = settings({
      targetModules: ['conv', 'body.q'],
      excludeModules: ['stem.conv'],
      rMax: 6,
      rankPattern: { 'body.q': 3 },
      loraScaling: 'rslora',
      loraAlpha: 4,
    });

    const state = createRunState(run, base);

    const layers = [...state.lora.values()].map(({ module, r, scale }) => [module, r, scale]);
    expect(layers).toEqual([
      ['body.conv', 6, 4 / Math.sqrt(6)],
      ['body.q', 3, 4 / Math.sqrt(3)],
    ]);
    const factors = [...state.lora.values()].reduce(
      (sum, { a, b }) => sum + a.data.length + b.data.length,
      0,
    );
    expect(planRun(run, base, 1).plan[0]!.trainableParameters).toBe(factors + 2 * 20 + 2);
  });

  it('reads settings of before these choices as they were', () => {
    const old = JSON.parse(JSON.stringify(settings({})));
    const parsed = runConfigSchema.parse(old);
    expect(parsed).toEqual(old);
    expect(parsed).not.toHaveProperty('rankPattern');
  });

  it.each<[object, RegExp]>([
    [{ rankPattern: { nowhere: 2 } }, /matches "nowhere" of the setting "rankPattern"/],
    [{ rankPattern: { '(': 2 } }, /"\(" of "rankPattern" cannot be read/],
    [{ alphaPattern: { 'body.q': 2 } }, /alphaPattern.*needs the scaling/],
    [{ loraScaling: 'rslora' }, /needs the setting "loraAlpha"/],
    [{ targetModules: 'nothing' }, /"nothing"/],
  ])('refuses %o', (more, message) => {
    expect(() => checkLoraSettings(settings(more), base)).toThrow(invalid(message));
  });

  it('starts a layer that is smaller than its rank with its smaller side', () => {
    const state = initialState(base, {
      classes: ['a'],
      targetModules: 'all',
      r: 99,
      rankOf: () => 50,
      scale: 1,
      seed: 1,
    });
    expect([...state.lora.values()].map((layer) => layer.r)).toEqual([8, 12, 12]);
  });
});
