/**
 * PEFT adapters and convolutions whose batch normalisation an exporter has folded in: exact with the scales, refused without. The
 * network without the fold is written here and run by ONNX Runtime.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { onnx } from 'onnx-proto';
import { describe, expect, it, test } from 'vitest';
import { mergeState } from '../../core/lora/merge.ts';
import type { LoraLayer, ModelState } from '../../core/lora/model-state.ts';
import { encodeSafetensors } from '../../core/lora/safetensors.ts';
import { writeAdapter } from '../../core/models/adapter-files.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { readNormScales } from '../../core/models/folded-norm.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import { exportPeftFolder, importPeftFolder } from '../../core/models/peft-import.ts';
import { withReplacedWeights } from '../../core/models/replaced-weights.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import {
  floats,
  halves,
  largestDifference,
  type NodeSketch,
  runBase,
  sketchModel,
  temporaryFolder,
  testPixels,
  waves,
  writeModel,
} from '../fixtures/onnx-files.ts';

const settings = { id: 'imported', licence: 'MIT', ...halves };
const epsilon = 1e-5;
const [gamma, beta, mean, variance] = [0.31, 0.47, 0.83, 1.1].map((step, part) =>
  waves(4, step).map((value) => (part % 3 === 0 ? 1.2 + value : value)),
) as [number[], number[], number[], number[]];
const scales = gamma.map((value, index) => value / Math.sqrt(variance[index]! + epsilon));
const weight = waves(4 * 3 * 9, 0.37);
const tailWeights = [
  floats('layer.conv2.weight', [5, 4, 3, 3], waves(180, 0.53)),
  floats('fc.weight', [6, 5], waves(30, 0.41)),
  floats('fc.bias', [6], waves(6, 0.29)),
];
const tail: NodeSketch[] = [
  { op: 'PRelu', in: ['n', 'prelu.weight'], out: ['p'] },
  { op: 'Conv', in: ['p', 'layer.conv2.weight'], out: ['d'], name: '/layer/conv2/Conv' },
  { op: 'GlobalAveragePool', in: ['d'], out: ['g'] },
  { op: 'Flatten', in: ['g'], out: ['f'] },
  {
    op: 'Gemm',
    in: ['f', 'fc.weight', 'fc.bias'],
    out: ['output'],
    attributes: { transB: 1 },
    name: '/fc/Gemm',
  },
];
const slopes = floats('prelu.weight', [4, 1, 1], [0.1, 0.2, 0.3, 0.4]);

/** As PyTorch exports it with training=PRESERVE. */
const kept = () =>
  sketchModel({
    nodes: [
      { op: 'Conv', in: ['input', 'layer.conv1.weight'], out: ['c'], name: '/layer/conv1/Conv' },
      {
        op: 'BatchNormalization',
        in: ['c', 'gamma', 'beta', 'mean', 'variance'],
        out: ['n'],
        attributes: { epsilon: { float: epsilon } },
      },
      ...tail,
    ],
    initializers: [
      floats('layer.conv1.weight', [4, 3, 3, 3], weight),
      ...[floats('gamma', [4], gamma), floats('beta', [4], beta)],
      ...[floats('mean', [4], mean), floats('variance', [4], variance), slopes, ...tailWeights],
    ],
  });
/** As PyTorch exports it in evaluation. @param names of the folded weight and bias */
const folded = (names = ['onnx::Conv_170', 'onnx::Conv_171']) =>
  sketchModel({
    nodes: [{ op: 'Conv', in: ['input', ...names], out: ['n'], name: '/layer/conv1/Conv' }, ...tail],
    initializers: [
      floats(
        names[0]!,
        [4, 3, 3, 3],
        weight.map((value, index) => value * scales[Math.floor(index / 27)]!),
      ),
      floats(
        names[1]!,
        [4],
        beta.map((value, index) => value - mean[index]! * scales[index]!),
      ),
      ...[slopes, ...tailWeights],
    ],
  });
const open = async (model: onnx.IModelProto) => openOnnxModel(await writeModel(model), settings);

const classes = ['a', 'b'];
/** An adapter of some layers as PEFT writes it for the network before the fold. */
async function peftFolder(modules: readonly string[]): Promise<string> {
  const folder = path.join(await temporaryFolder(), 'adapter');
  await mkdir(folder);
  const shapes: Record<string, [number[], number[]]> = {
    'layer.conv1': [
      [2, 3, 3, 3],
      [4, 2, 1, 1],
    ],
    'layer.conv2': [
      [2, 4, 3, 3],
      [5, 2, 1, 1],
    ],
    fc: [
      [2, 5],
      [6, 2],
    ],
  };
  const tensors = modules.flatMap((module) =>
    shapes[module]!.map((dims, side) => {
      const count = dims.reduce((product, size) => product * size, 1);
      const data = Float32Array.from(waves(count, 0.61 + side), (value) => 0.3 * value);
      return [
        `base_model.model.${module}.lora_${side === 0 ? 'A' : 'B'}.weight`,
        floatTensor(dims, data),
      ] as const;
    }),
  );
  await writeFile(
    path.join(folder, 'adapter_model.safetensors'),
    encodeSafetensors(new Map(tensors), { format: 'pt' }),
  );
  const config = { peft_type: 'LORA', r: 2, lora_alpha: 3, target_modules: modules };
  await writeFile(path.join(folder, 'adapter_config.json'), JSON.stringify(config));
  return folder;
}
async function scalesFile(tensors: Record<string, number[]>): Promise<string> {
  const file = path.join(await temporaryFolder(), 'bn-scales.safetensors');
  const entries = Object.entries(tensors).map(
    ([name, values]) => [name, floatTensor([values.length], Float32Array.from(values))] as const,
  );
  await writeFile(file, encodeSafetensors(new Map(entries), { format: 'pt' }));
  return file;
}
const embeddings = (base: BaseModel, state: ModelState) =>
  runBase(withReplacedWeights(base, mergeState(base, state)), testPixels(2, 8), 2);
/** Beside the largest value. */
const relative = (found: Float32Array, wanted: Float32Array) =>
  largestDifference(found, wanted) / Math.max(1, ...wanted.map(Math.abs));
const layerOf = (base: BaseModel, name: string) => base.layers.find(({ peftModule }) => peftModule === name)!;
const everything = ['layer.conv1', 'layer.conv2', 'fc'];

describe('a folded batch normalisation is recognised', () => {
  const flags = (base: BaseModel) =>
    base.layers.map(({ peftModule, foldedNorm }) => [peftModule, foldedNorm ?? false]);
  it.each([
    ['by PyTorch', undefined],
    ['by ONNX Runtime', ['ConvBnFusion_W_layer.conv1.weight', 'ConvBnFusion_BN_B_layer.bn1.bias']],
    ['by an optimiser that keeps the weight’s name', ['layer.conv1.weight', 'getattr_1_bias']],
    ['by who calls everything t1, t2', ['t1', 't2']],
  ])('%s', async (_by, names) => {
    expect(flags(await open(folded(names)))).toEqual([
      ['layer.conv1', true],
      ['layer.conv2', false],
      ['fc', false],
    ]);
  });

  it('and not where it is kept, or where a convolution just has a bias', async () => {
    expect(flags(await open(kept())).map(([, isFolded]) => isFolded)).toEqual([false, false, false]);
    const biased = await open(folded(['layer.conv1.weight', 'layer.conv1.bias']));
    expect(flags(biased)[0]).toEqual(['layer.conv1', false]);
  });
});

describe('an adapter trained before the fold', () => {
  it('gives the embeddings of the network before the fold, with the scales', async () => {
    const folder = await peftFolder(everything);
    const [whole, base] = [await open(kept()), await open(folded())];
    const normScales = await readNormScales(await scalesFile({ 'layer.conv1': scales }));

    const wanted = await embeddings(whole, (await importPeftFolder(folder, whole, { classes })).state);
    const found = await embeddings(
      base,
      (await importPeftFolder(folder, base, { classes, normScales })).state,
    );
    const wrong = await embeddings(
      base,
      (await importPeftFolder(folder, base, { classes, normScales: 'none' })).state,
    );

    expect(relative(found, wanted)).toBeLessThan(2e-6);
    expect(largestDifference(wrong, wanted)).toBeGreaterThan(1e-2);
  });

  it('is refused without them, naming the layer and what to do', async () => {
    const base = await open(folded());
    await expect(importPeftFolder(await peftFolder(everything), base, { classes })).rejects.toMatchObject({
      code: 'OPERATOR_UNSUPPORTED',
      message: expect.stringContaining('"layer.conv1"'),
      action: expect.stringMatching(/TrainingMode\.PRESERVE.*--bn-scales FILE.*--bn-scales none/),
    });
    const other = await readNormScales(await scalesFile({ 'layer.conv2': [1, 2, 3, 4, 5] }));
    await expect(
      importPeftFolder(await peftFolder(everything), base, { classes, normScales: other }),
    ).rejects.toMatchObject({ message: expect.stringMatching(/has none for "layer.conv1"/) });
  });

  it('of other layers comes in as it is', async () => {
    const { state } = await importPeftFolder(await peftFolder(['layer.conv2', 'fc']), await open(folded()), {
      classes,
    });
    expect([...state.lora.keys()]).toEqual(['conv_1', 'linear_2']);
  });

  it.each([
    ['of another length', [1, 2, 3]],
    ['of zeros', [1, 0, 1, 1]],
  ])('scales %s are refused', async (_what, values) => {
    const normScales = await readNormScales(await scalesFile({ 'layer.conv1': values }));
    const importing = importPeftFolder(await peftFolder(everything), await open(folded()), {
      classes,
      normScales,
    });
    await expect(importing).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
      message: expect.stringMatching(/"layer.conv1" have the shape \[\d\]: expected \[4\]/),
    });
  });
});

describe('an adapter trained here', () => {
  const trained = (base: BaseModel): ModelState => {
    const layer = layerOf(base, 'layer.conv1');
    const factors: LoraLayer = {
      ...{ module: layer.module, r: 2, scale: 1.5 },
      a: floatTensor([2, 3, 3, 3], Float32Array.from(waves(54, 0.7))),
      b: floatTensor([4, 2, 1, 1], Float32Array.from(waves(8, 0.9))),
    };
    const head = new Map([
      ['weight', floatTensor([2, 6])],
      ['bias', floatTensor([2])],
    ]);
    return {
      baseSha256: base.sha256,
      classes,
      lora: new Map([[layer.module, factors]]),
      head,
      base: new Map(),
    };
  };

  it('means the same in Python, with the scales, and comes back as it was', async () => {
    const [whole, base] = [await open(kept()), await open(folded())];
    const state = trained(base);
    const bnScales = await scalesFile({ 'layer.conv1.scale': scales });
    const normScales = await readNormScales(bnScales);
    const folder = path.join(await temporaryFolder(), 'out');
    await writeAdapter(folder, state, base, { format: 'peft', bnScales });

    // As PEFT reads it: without what only Anneal understands.
    const config = path.join(folder, 'adapter_config.json');
    const own = await importPeftFolder(folder, base, { normScales });
    const { anneal: _anneal, ...plain } = JSON.parse(await readText(config)) as Record<string, unknown>;
    await writeFile(config, JSON.stringify(plain));
    const { state: there } = await importPeftFolder(folder, whole, { classes });

    expect(relative(await embeddings(whole, there), await embeddings(base, state))).toBeLessThan(2e-6);
    expect(own.isOwn).toBe(true);
    const [first] = own.state.lora.values();
    const [original] = state.lora.values();
    expect(largestDifference(first!.b.data, original!.b.data)).toBeLessThan(1e-6);
  });

  it('is not written without them, and not read back without them', async () => {
    const base = await open(folded());
    const folder = path.join(await temporaryFolder(), 'out');
    await expect(exportPeftFolder(folder, trained(base), base)).rejects.toMatchObject({
      code: 'OPERATOR_UNSUPPORTED',
    });
    expect(existsSync(folder)).toBe(false);
    const normScales = await readNormScales(await scalesFile({ 'layer.conv1': scales }));
    await exportPeftFolder(folder, trained(base), base, { normScales });
    await expect(importPeftFolder(folder, base)).rejects.toMatchObject({ code: 'OPERATOR_UNSUPPORTED' });
  });

  it('goes as it is by Anneal’s own names, which Python does not know', async () => {
    const base = await open(folded());
    const folder = path.join(await temporaryFolder(), 'out');
    await exportPeftFolder(folder, trained(base), base, { names: 'anneal' });
    expect((await importPeftFolder(folder, base)).state).toEqual(trained(base));
  });
});

const readText = (file: string) => readFile(file, 'utf8');

const probes = fileURLToPath(new URL('../../../shared/probes/peft/folded-batchnorm', import.meta.url));
test.skipIf(!existsSync(probes))(
  'an IResNet of PyTorch: conv1 is refused, fc is not (skipped without ../shared)',
  async () => {
    const base = await openOnnxModel(path.join(probes, 'iresnet-ts.onnx'), settings);
    await expect(
      importPeftFolder(path.join(probes, 'adapter-ts-conv1'), base, { classes }),
    ).rejects.toMatchObject({
      code: 'OPERATOR_UNSUPPORTED',
      message: expect.stringContaining('conv1"'),
    });
    const four = ['a', 'b', 'c', 'd'];
    const fc = await importPeftFolder(path.join(probes, 'adapter-ts-fc'), base, { classes: four });
    expect([...fc.state.lora.values()].map(({ r }) => r)).toEqual([4]);
  },
);
