/** Adapters of Hugging Face PEFT as states of a base model, and the way back. */
import { z } from 'zod';
import type { LoraLayer, ModelState } from '../lora/model-state.ts';
import { type PeftFolder, type PeftWriteOptions, readPeftFolder, writePeftFolder } from '../lora/peft.ts';
import { type PeftAdapter, readPeftAdapter } from '../lora/peft-adapter.ts';
import { peftConfigName, peftWeightsName, readNamed, scaledTensor } from '../lora/peft-format.ts';
import { invalid } from '../lora/safetensors.ts';
import { dropZeroColumns, sliceFactors } from '../lora/stack-factors.ts';
import { AppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import { elementCount, type FloatTensor, floatTensor, sameDims } from '../shared/tensor.ts';
import { jsonText, plural } from '../shared/text.ts';
import type { AdaptableLayer, BaseModel } from './base-model.ts';
import { type NormScales, rescaled } from './folded-norm.ts';
import { type FoundLayer, type PeftNameStyle, peftModuleIndex, peftNames } from './peft-names.ts';

/** A state without a head when the adapter has none: `head` is empty then and `classes` are those asked for. */
export interface ImportedAdapter {
  readonly state: ModelState;
  /** Whether Anneal had written it: then the state is exactly what it was. */
  readonly isOwn: boolean;
}

/**
 * Reads a PEFT folder as a state of `base`. A folder of Anneal's own gives back exactly what was written. In others a
 * module's name may be that of timm, of transformers or Anneal's; factors of a fused `qkv` become factors of q, k and v.
 * @param options `classes` in the order of the head's rows; needed unless Anneal wrote the folder; `normScales` where
 *   batch normalisations were folded into adapted convolutions
 * @throws AppError MODEL_FILE_INVALID naming file and tensor, SHAPE_MISMATCH for another base model, CONFIG_INVALID
 *   when the classes are missing or too few, OPERATOR_UNSUPPORTED when those scales are not known
 */
export async function importPeftFolder(
  folder: string,
  base: BaseModel,
  options: { classes?: readonly string[]; normScales?: NormScales | undefined } = {},
): Promise<ImportedAdapter> {
  const own = await readOwn(folder);
  if (own !== null) {
    checkState(own.state, base);
    return { state: renamed(folded(own, base, options.normScales), options.classes), isOwn: true };
  }
  const adapter = await readPeftAdapter(folder);
  const lora = findLayers(adapter, base, options.normScales);
  const head = readHead(adapter, base);
  const { classes } = options;
  const rows = head.get('bias')?.data.length;
  if (classes === undefined || (rows !== undefined && classes.length !== rows)) {
    const needed = rows === undefined ? 'the classes of a head' : `the ${plural(rows, 'class')} of its head`;
    throw new AppError('CONFIG_INVALID', `The adapter's files do not name ${needed}.`, {
      action: 'Give them with --classes, in the order of the rows of the head.',
    });
  }
  return {
    state: { baseSha256: base.sha256, classes: [...classes], lora, head, base: new Map() },
    isOwn: false,
  };
}

interface PeftExportOptions extends Pick<PeftWriteOptions, 'loraDropout' | 'evaluation'> {
  names?: PeftNameStyle;
  normScales?: NormScales | undefined;
}

/**
 * Writes a state as a PEFT folder with the names of a library of Python.
 * @throws AppError OPERATOR_UNSUPPORTED for convolutions whose adapters PEFT does not have, CONFIG_INVALID for names
 *   that the base does not have, SHAPE_MISMATCH when the state belongs to another base, MODEL_FILE_INVALID
 */
export async function exportPeftFolder(
  folder: string,
  state: ModelState,
  base: BaseModel,
  options: PeftExportOptions = {},
): Promise<void> {
  checkState(state, base);
  const names = options.names ?? 'file';
  refuseForeignConvolutions(base, state);
  // By Anneal's own names nobody in Python finds a layer: such a folder is for Anneal alone, and stays as it is.
  const written = names === 'anneal' ? state : unfolded(state, base, options.normScales);
  await writePeftFolder(folder, written, base, {
    unfolded: [...written.lora].flatMap(([module, layer]) =>
      layer === state.lora.get(module) ? [] : [module],
    ),
    names: peftNames(base, names),
    ...pick(options, 'loraDropout', 'evaluation'),
  });
}

/** Factors as the network has them whose batch normalisations were folded. */
function unfolded(state: ModelState, base: BaseModel, normScales: NormScales | undefined): ModelState {
  const layers = new Map(base.layers.map((layer) => [layer.module, layer]));
  const lora = [...state.lora].map(
    ([module, factors]) => [module, rescaled(layers.get(module)!, factors, normScales, 'unfold')] as const,
  );
  return { ...state, lora: new Map(lora) };
}

/** The way back of {@link unfolded}, of the layers that it changed. */
function folded(own: PeftFolder, base: BaseModel, normScales: NormScales | undefined): ModelState {
  const layers = new Map(base.layers.map((layer) => [layer.module, layer]));
  const lora = new Map(own.state.lora);
  for (const module of own.unfolded) {
    const [layer, factors] = [layers.get(module), lora.get(module)];
    if (layer === undefined || factors === undefined)
      throw invalid(peftWeightsName, `there is no layer "${module}"`);
    lora.set(module, rescaled({ ...layer, foldedNorm: true }, factors, normScales, 'fold'));
  }
  return { ...own.state, lora };
}

/** Null when the folder is not of Anneal's own making. A damaged one is not read as if it were another program's. */
async function readOwn(folder: string): Promise<PeftFolder | null> {
  const bytes = await readNamed(folder, peftConfigName);
  const own = jsonText.pipe(z.object({ anneal: z.unknown() })).safeParse(bytes.toString('utf8'));
  return own.success ? readPeftFolder(folder) : null;
}

function renamed(state: ModelState, classes: readonly string[] | undefined): ModelState {
  if (classes === undefined) return state;
  if (classes.length !== state.classes.length) {
    throw new AppError(
      'CONFIG_INVALID',
      `The adapter has ${plural(state.classes.length, 'class')}, not ${classes.length}.`,
    );
  }
  return { ...state, classes: [...classes] };
}

/** @throws AppError SHAPE_MISMATCH when the state does not fit the base model */
export function checkState(state: ModelState, base: Pick<BaseModel, 'id' | 'sha256' | 'layers'>): void {
  const mismatch = (what: string) =>
    new AppError('SHAPE_MISMATCH', `This adapter does not belong to the base model ${base.id}: ${what}.`);
  if (state.baseSha256 !== base.sha256) throw mismatch('it was trained on a network with other weights');
  const layers = new Map(base.layers.map((layer) => [layer.module, layer]));
  for (const { module, a, b } of state.lora.values()) {
    const layer = layers.get(module);
    if (layer === undefined) throw mismatch(`there is no layer "${module}"`);
    const [out = 0, ...inDims] = layer.weightDims;
    if (b.dims[0] === out && sameDims(a.dims.slice(1), inDims)) continue;
    const found = [b.dims[0], ...a.dims.slice(1)].join(', ');
    throw mismatch(`"${module}" has the shape [${layer.weightDims.join(', ')}] there and [${found}] here`);
  }
}

function findLayers(
  adapter: PeftAdapter,
  base: BaseModel,
  normScales: NormScales | undefined,
): Map<string, LoraLayer> {
  const find = peftModuleIndex(base);
  const found = new Map<string, LoraLayer>();
  for (const [module, factors] of adapter.layers) {
    const targets = find(module);
    if (targets.length === 0) {
      throw new AppError(
        'MODEL_FILE_INVALID',
        `${peftWeightsName} adapts "${module}", which is not a layer of the base model ${base.id} that LoRA can adapt.`,
        { action: 'Import it with the base model that it was trained on.' },
      );
    }
    for (const [layer, part] of splitFactors(module, factors, targets)) {
      if (found.has(layer.module)) throw invalid(peftWeightsName, `it adapts "${layer.module}" twice`);
      found.set(layer.module, rescaled(layer, part, normScales, 'fold'));
    }
  }
  // In the order of the base model, as a run would have it.
  const ordered = base.layers.flatMap(({ module }) => {
    const layer = found.get(module);
    return layer === undefined ? [] : [[module, layer] as const];
  });
  return new Map(ordered);
}

function splitFactors(
  module: string,
  factors: LoraLayer,
  targets: readonly FoundLayer[],
): (readonly [AdaptableLayer, LoraLayer])[] {
  const { r, scale, a, b } = factors;
  // A fresh adapter changes nothing anywhere: all its parts keep their A to learn from.
  const isFresh = b.data.every((value) => value === 0);
  return targets.flatMap(({ layer, part }) => {
    const [out = 0, ...inDims] = layer.weightDims;
    checkShape(module, factors, [part?.rows ?? out, ...inDims]);
    if (part === null) return [[layer, { module: layer.module, r, scale, a, b }] as const];
    const slice = sliceFactors(factors, { rankStart: 0, r, rowStart: part.start, rows: out });
    const kept = isFresh ? slice : dropZeroColumns(slice);
    if (kept === null) return [];
    return [[layer, { module: layer.module, r: kept.a.dims[0]!, scale, ...kept }] as const];
  });
}

function checkShape(module: string, { r, a, b }: LoraLayer, weightDims: readonly number[]): void {
  const [out = 0, ...inDims] = weightDims;
  const bDims = inDims.length === 1 ? [out, r] : [out, r, 1, 1];
  const sides = [
    { side: 'A', found: a.dims, expected: [r, ...inDims] },
    { side: 'B', found: b.dims, expected: bDims },
  ];
  for (const { side, found, expected } of sides) {
    if (sameDims(found, expected)) continue;
    throw invalid(
      peftWeightsName,
      `lora_${side} of "${module}" has the shape [${found.join(', ')}]: the base model asks for [${expected.join(', ')}]`,
    );
  }
}

/** The one module beside the factors, as Anneal's head; empty when there is none. */
function readHead(adapter: PeftAdapter, base: BaseModel): Map<string, FloatTensor> {
  const [first] = adapter.others.keys();
  if (first === undefined) return new Map();
  const module = first.replace(/\.[^.]*$/, '');
  const weight = adapter.others.get(`${module}.weight`);
  const bias = adapter.others.get(`${module}.bias`);
  const strange = [...adapter.others.keys()].find(
    (name) => name !== `${module}.weight` && name !== `${module}.bias`,
  );
  if (strange !== undefined || weight === undefined) {
    throw invalid(
      peftWeightsName,
      `tensor "${strange ?? `${module}.weight`}" was not expected: besides LoRA factors Anneal reads one linear classifier`,
    );
  }
  const [classes = 0] = weight.dims;
  const fits = sameDims(weight.dims, [classes, base.embeddingSize]) && classes > 0;
  if (!fits || (bias !== undefined && elementCount(bias.dims) !== classes)) {
    throw invalid(
      peftWeightsName,
      `the classifier "${module}" has the shape [${weight.dims.join(', ')}]: expected [classes, ${base.embeddingSize}]`,
    );
  }
  return new Map([
    ['weight', scaledTensor(weight, 1 / base.headGain)],
    ['bias', bias === undefined ? floatTensor([classes]) : floatTensor([classes], bias.data)],
  ]);
}

/** PEFT's factors of a convolution know no dilation, and in groups they cannot be merged. */
function refuseForeignConvolutions(base: BaseModel, state: ModelState): void {
  const adapted = new Map(
    base.layers
      .filter(({ module, kind }) => kind === 'conv' && (state.lora.get(module)?.r ?? 0) > 0)
      .map((layer) => [layer.weight, layer.module]),
  );
  if (adapted.size === 0) return;
  for (const { op, inputs, attributes } of base.buildGraph(1).nodes) {
    const module = op === 'Conv' ? adapted.get(inputs[1] ?? '') : undefined;
    if (module === undefined) continue;
    const isGrouped = ((attributes['group'] as number | undefined) ?? 1) > 1;
    const isDilated = ((attributes['dilations'] as readonly number[] | undefined) ?? []).some(
      (step) => step > 1,
    );
    if (!isGrouped && !isDilated) continue;
    throw new AppError(
      'OPERATOR_UNSUPPORTED',
      `PEFT has no adapters for the ${isGrouped ? 'grouped' : 'dilated'} convolution "${module}" that give the same results.`,
      { action: 'Export the merged network (--format onnx), or leave the layer out with excludeModules.' },
    );
  }
}
