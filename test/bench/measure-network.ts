/** Measures one network: both sides compared, then timed in turns. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { decodeSafetensors } from '../../core/lora/safetensors.ts';
import { type MeasuredProcess, startProcess } from './child-process.ts';
import { type Comparison, compareSides } from './compare.ts';
import { median } from './median.ts';
import { checkedSchema, type Ready, readySchema, type Stepped, steppedSchema } from './messages.ts';
import type { BenchNetwork } from './networks.ts';
import type { BenchOptions } from './options.ts';

/** Largest relative difference of the loss and of the whole gradient that still counts as the same computation. */
const tolerance = 1e-3;
/**
 * The same for the gradient of one parameter. Wider, because a rectifier whose input is zero within rounding
 * may let its gradient pass on one side only: PyTorch's own two layouts of face-resnet-128 differ by 1e-3.
 */
const parameterTolerance = 1e-2;
const warmUpSteps = 2;
const variantTurns = 5;

type Side = MeasuredProcess<Ready>;

export interface NetworkResult {
  network: string;
  batch: number;
  /** Images of a part, and how many parts are computed at the same time. */
  microBatch: number;
  lanes: number;
  imagesPerSecond: number;
  torchImagesPerSecond: number | null;
  /** Median over the pairs of ours against theirs. */
  speedRatio: number | null;
  speedRatioRange: [number, number] | null;
  /** Whole processes, at their largest. */
  memoryRatio: number | null;
  peakBytes: number;
  torchPeakBytes: number | null;
  /** The same without CUDA's libraries, which PyTorch's usual package loads even where there is no GPU. */
  memoryRatioWithoutCuda: number | null;
  torchCudaLibraryBytes: number | null;
  /** At their largest, less what they held right after their imports. */
  memoryRatioLessRuntime: number | null;
  peakLessRuntimeBytes: number;
  torchPeakLessRuntimeBytes: number | null;
  /** Building and compiling the training graph. */
  compileSeconds: number;
  optimiserShare: number;
  /** Of the matrix products and convolutions in Anneal's graph. */
  gigaflopsPerStep: number;
  gigaflopsPerSecond: number;
  /** Processor time of the side whose turn it is not, against the other's turn. */
  idleShare: number | null;
  torchVariant: string[] | null;
  torchCompiledImagesPerSecond: number | null;
  comparison: Comparison | null;
  pairs: { imagesPerSecond: number; torchImagesPerSecond: number }[];
  versions: Record<string, string>;
}

/** @throws Error when the two sides do not compute the same */
export async function measureNetwork(
  network: BenchNetwork,
  folder: string,
  options: BenchOptions,
  progress: (text: string) => void,
): Promise<NetworkResult> {
  const prepareFile = join(import.meta.dirname, 'prepare-network.ts');
  progress(`${network.id}: preparing`);
  await promisify(execFile)(process.execPath, [prepareFile, network.id, folder, String(network.batch)]);
  const variant = options.python ? await fasterVariant(network, folder, options, progress) : null;
  const ours = await startOurs(folder, options);
  let theirs: Side | null = null;
  try {
    theirs = variant && (await startTorch(folder, options, variant));
    const comparison = theirs && (await compare(ours, theirs, folder));
    if (comparison) progress(`${network.id}: ${describeComparison(comparison)}`);
    const turns = await takeTurns(network, ours, theirs, options, progress);
    const result = summarise(network, ours, theirs, turns);
    await theirs?.close();
    const compiled =
      variant && options.compile ? await measureCompiled(network, folder, options, variant) : null;
    return { ...result, torchVariant: variant, torchCompiledImagesPerSecond: compiled, comparison };
  } finally {
    await ours.close();
    await theirs?.close();
  }
}

function startOurs(folder: string, options: BenchOptions): Promise<Side> {
  const file = join(import.meta.dirname, 'anneal-train.ts');
  const { threads, microBatch = 0, spinning } = options;
  const settings = [folder, String(threads), String(microBatch), spinning ? '1' : '0'];
  return startProcess([process.execPath, file, ...settings], readySchema);
}

function startTorch(folder: string, options: BenchOptions, variant: readonly string[]): Promise<Side> {
  const file = join(import.meta.dirname, 'torch_train.py');
  const threads = String(options.threads);
  const command = [options.python!, file, '--folder', folder, '--threads', threads, ...variant];
  const environment = { OMP_NUM_THREADS: threads, MKL_NUM_THREADS: threads, PYTHONDONTWRITEBYTECODE: '1' };
  return startProcess(command, readySchema, environment);
}

/** Tries the layouts that PyTorch may like better, in turns and in processes of their own, and keeps the faster. */
async function fasterVariant(
  network: BenchNetwork,
  folder: string,
  options: BenchOptions,
  progress: (text: string) => void,
): Promise<string[]> {
  const variants = network.vit ? [[], ['--separate']] : [[], ['--channels-last']];
  const sides: Side[] = [];
  const seconds: number[][] = variants.map(() => []);
  try {
    for (const variant of variants) sides.push(await startTorch(folder, options, variant));
    for (const side of sides) await steps(side, warmUpSteps);
    for (let turn = 0; turn < variantTurns; turn++) {
      for (const [index, side] of sides.entries()) seconds[index]!.push((await steps(side, 1)).seconds);
    }
  } finally {
    for (const side of sides) await side.close();
  }
  const medians = seconds.map(median);
  for (const [index, variant] of variants.entries()) {
    const name = variant.join(' ') || 'as it is';
    progress(`${network.id}: PyTorch ${name}: ${rate(network, 1, medians[index]!)} images/s`);
  }
  return variants[medians.indexOf(Math.min(...medians))]!;
}

/** Given its own process and warm-up, since compiling takes long and changes its memory. */
async function measureCompiled(
  network: BenchNetwork,
  folder: string,
  options: BenchOptions,
  variant: readonly string[],
): Promise<number | null> {
  const side = await startTorch(folder, options, [...variant, '--compile']);
  try {
    const { seconds } = await steps(side, warmUpSteps).then(() => steps(side, 1));
    const count = Math.max(1, Math.round(options.turnSeconds / seconds));
    const turns: number[] = [];
    for (let turn = 0; turn < options.pairs; turn++) turns.push((await steps(side, count)).seconds);
    return (count * network.batch) / median(turns);
  } finally {
    await side.close();
  }
}

const steps = (side: Side, count: number) => side.ask({ type: 'steps', count }, steppedSchema);

async function compare(ours: Side, theirs: Side, folder: string): Promise<Comparison> {
  const sides = [];
  for (const [name, side] of [['ours', ours] as const, ['theirs', theirs] as const]) {
    const file = join(folder, `${name}.safetensors`);
    const { loss } = await side.ask({ type: 'check', file }, checkedSchema);
    sides.push({ loss, gradients: decodeSafetensors(await readFile(file), name).tensors });
  }
  const comparison = compareSides(sides[0]!, sides[1]!);
  const { lossDifference, gradientDifference, worstDifference } = comparison;
  const isSame = lossDifference <= tolerance && gradientDifference <= tolerance;
  if (isSame && worstDifference <= parameterTolerance) return comparison;
  throw new Error(`the two sides do not compute the same: ${describeComparison(comparison)}`);
}

function describeComparison(comparison: Comparison): string {
  const { lossDifference, gradientDifference, worstDifference, worst } = comparison;
  const figures = [lossDifference, gradientDifference, worstDifference].map((value) =>
    value.toExponential(1),
  );
  return `loss differs by ${figures[0]}, the gradient by ${figures[1]} (at most ${figures[2]}, ${worst})`;
}

interface Turns {
  count: number;
  ours: Stepped[];
  theirs: Stepped[];
  idleShare: number | null;
}

/** Pairs of turns in alternating order; the other side waits meanwhile, and its processor time is looked at. */
async function takeTurns(
  network: BenchNetwork,
  ours: Side,
  theirs: Side | null,
  options: BenchOptions,
  progress: (text: string) => void,
): Promise<Turns> {
  await steps(ours, warmUpSteps);
  if (theirs) await steps(theirs, warmUpSteps);
  const { seconds } = await steps(ours, 1);
  const count = Math.max(1, Math.round(options.turnSeconds / seconds));
  const turns = { ours: [] as Stepped[], theirs: [] as Stepped[] };
  let [idleSeconds, otherSeconds] = [0, 0];
  const turn = async (name: 'ours' | 'theirs') => {
    const [side, other] = name === 'ours' ? [ours, theirs] : [theirs!, ours];
    const before = await other?.processorSeconds();
    const stepped = await steps(side, count);
    turns[name].push(stepped);
    idleSeconds += ((await other?.processorSeconds()) ?? 0) - (before ?? 0);
    otherSeconds += stepped.seconds;
  };
  for (let pair = 0; pair < options.pairs; pair++) {
    const order = pair % 2 === 0 ? (['ours', 'theirs'] as const) : (['theirs', 'ours'] as const);
    for (const name of order) if (name === 'ours' || theirs) await turn(name);
    const rates = [turns.ours, turns.theirs].map(
      (side) => side.at(-1) && rate(network, count, side.at(-1)!.seconds),
    );
    progress(
      `${network.id}: pair ${pair + 1} of ${options.pairs}: ${rates.filter(Boolean).join(' against ')} images/s`,
    );
  }
  return { count, ...turns, idleShare: theirs ? idleSeconds / otherSeconds : null };
}

const rate = ({ batch }: BenchNetwork, count: number, seconds: number) =>
  ((count * batch) / seconds).toFixed(1);

type Summary = Omit<NetworkResult, 'torchVariant' | 'torchCompiledImagesPerSecond' | 'comparison'>;

function summarise(network: BenchNetwork, ours: Side, theirs: Side | null, turns: Turns): Summary {
  const { batch } = network;
  const imagesPerSecond = (stepped: Stepped) => (turns.count * batch) / stepped.seconds;
  const ourRates = turns.ours.map(imagesPerSecond);
  const theirRates = turns.theirs.map(imagesPerSecond);
  const ratios = theirRates.map((value, pair) => ourRates[pair]! / value);
  const speed = median(ourRates);
  const theirSpeed = theirs ? median(theirRates) : null;
  const peakBytes = turns.ours.at(-1)!.peakBytes;
  const torchPeakBytes = turns.theirs.at(-1)?.peakBytes ?? null;
  const cudaBytes = theirs?.ready.cudaLibraryBytes ?? 0;
  const lessRuntime = peakBytes - ours.ready.importedBytes;
  const torchLessRuntime = torchPeakBytes === null ? null : torchPeakBytes - theirs!.ready.importedBytes;
  const gigaflopsPerStep = (ours.ready.flopsPerStep ?? Number.NaN) / 1e9;
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  return {
    network: network.id,
    batch,
    microBatch: ours.ready.microBatch ?? batch,
    lanes: ours.ready.lanes ?? 1,
    imagesPerSecond: speed,
    torchImagesPerSecond: theirSpeed,
    speedRatio: theirs ? median(ratios) : null,
    speedRatioRange: theirs ? [Math.min(...ratios), Math.max(...ratios)] : null,
    memoryRatio: torchPeakBytes && peakBytes / torchPeakBytes,
    peakBytes,
    torchPeakBytes,
    memoryRatioWithoutCuda: torchPeakBytes && peakBytes / (torchPeakBytes - cudaBytes),
    torchCudaLibraryBytes: theirs && cudaBytes,
    memoryRatioLessRuntime: torchLessRuntime && lessRuntime / torchLessRuntime,
    peakLessRuntimeBytes: lessRuntime,
    torchPeakLessRuntimeBytes: torchLessRuntime,
    compileSeconds: ours.ready.compileSeconds ?? Number.NaN,
    optimiserShare: sum(turns.ours.map((t) => t.optimiserSeconds)) / sum(turns.ours.map((t) => t.seconds)),
    gigaflopsPerStep,
    gigaflopsPerSecond: (gigaflopsPerStep * speed) / batch,
    idleShare: turns.idleShare,
    pairs: ourRates.map((value, pair) => ({
      imagesPerSecond: value,
      torchImagesPerSecond: theirRates[pair] ?? Number.NaN,
    })),
    versions: { ...theirs?.ready.versions, ...ours.ready.versions },
  };
}
