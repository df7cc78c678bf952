/** Chooses device, threads and images at once from what was measured. */
import { pick } from '../../shared/pick.ts';
import type { DeviceKind, EngineName } from '../engine.ts';
import type { MeasuredDevice, Measurement } from './measure-devices.ts';

export interface Recommendation {
  engine: EngineName;
  device: DeviceKind;
  /** What a person calls the device. */
  name: string;
  threads: number;
  /** Images of one optimiser step. */
  batchSize: number;
  /** Images computed at once; `batchSize` is a multiple of it. */
  microBatch: number;
  imagesPerSecond: number;
  peakMemoryBytes: number;
}

/** A size that is less than this much slower counts as equally fast; the smaller memory then decides. */
const equalShare = 0.05;
/** Another device must be this much faster than the processor, for which every installation is tested. */
const worthwhileShare = 0.1;

/** @returns null when no step succeeded anywhere */
export function recommend(devices: readonly MeasuredDevice[], batchSize: number): Recommendation | null {
  const candidates = devices.flatMap((device) => {
    const best = frugalBest(device.measurements.filter(({ microBatch }) => microBatch <= batchSize));
    return best === undefined ? [] : [{ device, best }];
  });
  const processor = candidates.find(isDefault);
  const chosen = candidates.reduce<(typeof candidates)[number] | undefined>((winner, candidate) => {
    if (winner === undefined) return candidate;
    const margin = winner === processor ? 1 + worthwhileShare : 1;
    return candidate.best.imagesPerSecond > winner.best.imagesPerSecond * margin ? candidate : winner;
  }, processor);
  if (chosen === undefined) return null;
  const { device, best } = chosen;
  return {
    engine: device.engine,
    device: device.kind,
    name: device.name,
    ...pick(best, 'threads', 'microBatch', 'imagesPerSecond', 'peakMemoryBytes'),
    batchSize: Math.max(best.microBatch, Math.floor(batchSize / best.microBatch) * best.microBatch),
  };
}

const isDefault = ({ device }: { device: MeasuredDevice }): boolean =>
  device.engine === 'onnxruntime' && device.kind === 'cpu';

/** Of those that are about as fast as the fastest, the one that takes the least memory. */
function frugalBest(measurements: readonly Measurement[]): Measurement | undefined {
  const most = Math.max(...measurements.map(({ imagesPerSecond }) => imagesPerSecond));
  return measurements
    .filter(({ imagesPerSecond }) => imagesPerSecond >= most * (1 - equalShare))
    .sort((a, b) => a.peakMemoryBytes - b.peakMemoryBytes)[0];
}
