/** A rogue coordinator whose run was approved, and whose files and rounds are not what the contract says. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { runConfigSchema, startFromText } from '../../core/config/run-config.ts';
import { demoLabels } from '../../core/data/demo-faces.ts';
import { type ModelState, mapLayers, shapesAtRank } from '../../core/lora/model-state.ts';
import { parseSafetensors } from '../../core/lora/safetensors.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { chunkBytes } from '../../core/transport/messages.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { until } from '../fixtures/federation.ts';
import {
  type Ask,
  firstState,
  newRun,
  type RogueCoordinator,
  startRogueCoordinator,
} from './lib/rogue-coordinator.ts';
import { leftAfter, startVictim, type Victim } from './lib/victim.ts';

const settings: Ask['settings'] = {
  ...{ classes: [...demoLabels], rounds: 3, quorum: 3, rMax: 4, rMin: 4 },
  ...{ targetModules: ['conv256_1.conv1'], robust: { rule: 'norm-bound', factor: 2 } },
  training: { batchSize: 4, epochs: 2 },
};

let coordinator: RogueCoordinator;
let victim: Victim;
let base: BaseModel;
let runId: string;
beforeAll(async () => {
  coordinator = await startRogueCoordinator();
  victim = await startVictim(coordinator);
  base = await loadBaseModel('face-resnet-128');
});
beforeEach(async () => {
  runId = newRun();
  await victim.newAudit();
});
afterAll(async () => {
  await victim?.[Symbol.asyncDispose]();
  await coordinator?.[Symbol.asyncDispose]();
});

const honest = (): ModelState => decodeModelState(firstState({ base, settings }), 'state');

/** One clear sentence on the site's screen, the same to the coordinator, and one entry in the audit trail. */
async function refusal(): Promise<string> {
  const { reason } = (await coordinator.hears(runId, 'declined', 15_000)).body;
  expect(await victim.activity()).toBe('refused');
  const problem = await victim.problem();
  expect(problem!.message).toBe(reason);
  expect(['CONTRACT_BROKEN', 'POLICY_REFUSED']).toContain(problem!.code);
  expect(reason).toMatch(/^[A-Z].*\.$/s);
  const details = expect.objectContaining({ runId, reason });
  expect(await victim.newAudit()).toContainEqual(
    expect.objectContaining({ action: 'manifest-refused', details }),
  );
  return reason!;
}

const nothing = { updates: 0, evaluations: 0, steps: 0 };

/** More than the contract lists, or other numbers than those of the base model under it. */
const files: [string, () => Uint8Array][] = [
  ['all layers instead of one', () => firstState({ base, settings: { ...settings, targetModules: 'all' } })],
  [
    'weights in place of those of the base model',
    () => {
      const [[name, weight] = []] = base.weights;
      const other = floatTensor(
        weight!.dims,
        weight!.data.map((value) => 1 - value),
      );
      return encodeModelState({ ...honest(), base: new Map([[name!, other]]) });
    },
  ],
  [
    'twice the rank',
    () => {
      const wider = mapLayers(honest(), (layer) => {
        const { a, b } = shapesAtRank(layer, 2 * layer.r);
        return { ...layer, r: 2 * layer.r, a: floatTensor(a.dims), b: floatTensor(b.dims) };
      });
      return encodeModelState(wider);
    },
  ],
  ['a scale of 1e6', () => encodeModelState(mapLayers(honest(), (layer) => ({ ...layer, scale: 1e6 })))],
  [
    'a head for more classes',
    () => firstState({ base, settings: { ...settings, classes: [...demoLabels, 'one more'] } }),
  ],
  [
    'a tensor of another name',
    () => {
      const state = honest();
      return encodeModelState({ ...state, head: new Map([...state.head, ['extra', floatTensor([4])]]) });
    },
  ],
  [
    'a value that is no number',
    () => {
      const state = honest();
      state.head.get('bias')!.data[0] = Number.NaN;
      return encodeModelState(state);
    },
  ],
];

/** Before: 29 layers were sent where the card said 14, and base weights were replaced in silence. */
test.each(files)('a state with %s is refused before anything is computed with it', async (_what, make) => {
  await coordinator.ask({ runId, base, settings, round: 1, state: make() });

  await refusal();
  expect(await leftAfter(coordinator, runId)).toEqual(nothing);
});

test('a run that does not start from what its seed gives is refused before the file is fetched', async () => {
  const state = honest();
  state.head.get('bias')!.data[0] = 0.5;
  const { requests } = coordinator;

  await coordinator.ask({ runId, base, settings, state: encodeModelState(state) });

  await refusal();
  expect(await leftAfter(coordinator, runId)).toEqual(nothing);
  expect(coordinator.requests - requests).toBe(0);
});

test('a run that does not start from the version that its contract names is refused before the file is fetched', async () => {
  const startFrom = startFromText({ runId: newRun(), round: 0, sha256: 'c'.repeat(64) });
  const { requests } = coordinator;

  // A version of a run that this site did not see: it cannot be known, but it is the one that the contract names.
  await coordinator.ask({ runId, base, settings: { ...settings, startFrom }, contributors: 3 });

  expect(await refusal()).toContain('its contract names');
  expect(await leftAfter(coordinator, runId)).toEqual(nothing);
  expect(coordinator.requests - requests).toBe(0);
});

test('a version that was made by too few sites is nothing that a run can start from', async () => {
  const startFrom = startFromText({
    runId: newRun(),
    round: 0,
    sha256: sha256(firstState({ base, settings })),
  });

  await coordinator.ask({ runId, base, settings: { ...settings, startFrom }, contributors: 1 });

  expect(await refusal()).toContain('1 contributing');
  expect(await leftAfter(coordinator, runId)).toEqual(nothing);
});

test('a run that starts from another result than the one that a round of an earlier run had here is refused', async () => {
  const earlier = newRun();
  await coordinator.ask({ runId: earlier, base, settings, round: 1 });
  await coordinator.hears(earlier, 'announce');
  const startFrom = startFromText({ runId: earlier, round: 0, sha256: 'd'.repeat(64) });

  await coordinator.ask({ runId, base, settings: { ...settings, startFrom }, contributors: 3 });

  const { reason } = (await coordinator.hears(runId, 'declined', 15_000)).body;
  expect(reason).toBe('The run does not start from the version of an earlier run that it names.');
  expect(await leftAfter(coordinator, runId)).toEqual(nothing);
});

/** Before: the site began to download 3 × 2 GiB for a run of a megabyte. */
test('files of 3 × 2 GiB are refused before their first chunk', async () => {
  const { requests } = coordinator;
  const huge = (digit: string) => ({ sha256: digit.repeat(64), sizeBytes: 2 ** 31 - 1, chunkBytes });

  await coordinator.ask({
    ...{ runId, base, settings, round: 1 },
    change: { state: huge('a'), frozenBaseDelta: [huge('b'), huge('c')] },
  });

  await refusal();
  expect(await leftAfter(coordinator, runId)).toEqual(nothing);
  expect(coordinator.requests - requests).toBe(0);
});

const frozen = (sizeBytes: number) => ({ sha256: 'b'.repeat(64), sizeBytes, chunkBytes });

const config = runConfigSchema.parse({ baseId: '', baseSha256: '0'.repeat(64), ...settings });
const plan = getStrategy(config.strategy).configureTrain(config, 0);

/** What it asks in a round, and what the refusal names. */
const rounds: [string, Partial<Ask>, RegExp][] = [
  [
    'a plan of all weights',
    { change: { plan: { ...plan, mode: 'full' } } },
    /"mode" is full instead of lora/,
  ],
  ['a plan of a higher rank', { change: { plan: { ...plan, rank: 64 } } }, /"rank" is 64 instead of 4/],
  ['a plan of another stage', { change: { plan: { ...plan, stage: 'cooling' } } }, /"stage" is cooling/],
  ['a plan without a pull', { change: { plan: { ...plan, proximal: 0 } } }, /"proximal" is 0/],
  ['a round after the last', { round: 1, change: { round: 7 } }, /have no round 8/],
  ['weights under the first model', { change: { frozenBaseDelta: [frozen(1000)] } }, /first round/],
  [
    'weights under the second',
    { round: 1, change: { frozenBaseDelta: [frozen(1000)] } },
    /1 parts lie under it/,
  ],
  ['a shared model of one site', { round: 1, contributors: 1 }, /asks for at least 3/],
  ['a shared model of two sites', { round: 1, contributors: 2 }, /asks for at least 3/],
  ['a shared model of nobody', { round: 1, change: { contributors: null } }, /asks for at least 3/],
  ['a last model of one site', { round: 2, phase: 'evaluate', contributors: 1 }, /asks for at least 3/],
];

test.each(rounds)('%s is refused', async (_what, ask, named) => {
  await coordinator.ask({ runId, base, settings, ...ask });

  expect(await refusal()).toMatch(named);
  expect(await leftAfter(coordinator, runId)).toEqual(nothing);
});

test('what leaves is what the card lists, by name, shape and size', async () => {
  await coordinator.ask({ runId, base, settings });
  const announced = await coordinator.hears(runId, 'announce');

  const file = await coordinator.fetch(announced);

  const { entries } = parseSafetensors(file, 'update');
  expect([...entries.keys()].sort()).toEqual([
    ...['head.bias', 'head.weight'],
    ...['lora.conv256_1.conv1.lora_A.weight', 'lora.conv256_1.conv1.lora_B.weight'],
  ]);
  expect(entries.get('lora.conv256_1.conv1.lora_A.weight')!.dims[0]).toBe(4);
  // The number of images is no exact one.
  expect(Number(announced.body['examples']) % 5).toBe(0);
});

test('a round has one model: another one in its place is refused', async () => {
  await coordinator.ask({ runId, base, settings });
  await coordinator.hears(runId, 'announce');
  const state = honest();
  state.head.get('bias')!.data[0] = 0.5;
  await coordinator.ask({ runId, base, settings, round: 1, state: encodeModelState(state) });
  await until('the second round', async () => coordinator.saidOf(runId, 'announce').length === 2);
  state.head.get('bias')!.data[0] = 0.25;
  await victim.newAudit();

  await coordinator.ask({ runId, base, settings, round: 1, state: encodeModelState(state) });
  await coordinator.hears(runId, 'declined', 10_000);

  expect(await leftAfter(coordinator, runId)).toMatchObject({ updates: 2, evaluations: 2 });
  expect(await victim.problem()).toMatchObject({ code: 'CONTRACT_BROKEN' });
  expect((await victim.newAudit()).map(({ action }) => action)).toContain('manifest-refused');
});
