/** Measures real training steps on a device, with growing numbers of images at once, within a time limit. */
import { AppError, toAppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import type { Device } from '../engine.ts';
import { startTrainer } from '../trainer.ts';

export interface Measurement {
  threads: number;
  /** Images that went through the network at once. */
  microBatch: number;
  stepsPerSecond: number;
  imagesPerSecond: number;
  /** Building the graph and preparing it for the device. */
  compileMs: number;
  /** Of the trainer process; on a graphics card this leaves out the card's own memory. */
  peakMemoryBytes: number;
}

export interface MeasuredDevice extends Device {
  measurements: readonly Measurement[];
  /** Whether a training step was tried: one that answers may still fail at it. */
  tried: boolean;
  /** Why larger numbers were not measured. */
  note?: string;
}

export interface MeasureSettings {
  baseId: string;
  /** Where imported base models are. */
  modelsFolder?: string;
  /** Numbers of images at once, the smallest first. */
  microBatches: readonly number[];
  /** Numbers of processor threads; the first one for every size, the others at the best size on the processor. */
  threads: readonly number[];
  /** Sizes that would need more are left out. */
  memoryBudgetBytes: number;
  /** For the whole device, in milliseconds. */
  timeLimitMs: number;
  /** The first measurement is not given up before this, in milliseconds; by default the limit holds for it, too. */
  patienceMs?: number;
  /** @throws AppError CANCELLED from {@link measureDevice} */
  signal?: AbortSignal;
  onProgress?: (device: Device, next: { microBatch: number; threads: number }) => void;
}

/** Steps of one measurement at most. */
const maxSteps = 12;
/** A trainer that does not end by itself in this time is killed. */
const cancelTimeoutMs = 2_000;

/**
 * Every measurement runs in a trainer process of its own, so that memory peaks do not add up and a fault of the
 * driver ends nothing else. A device on which no step succeeds is returned as not available, with the reason.
 * @throws AppError CANCELLED
 */
export async function measureDevice(device: Device, settings: MeasureSettings): Promise<MeasuredDevice> {
  if (!device.available) return { ...device, measurements: [], tried: false };
  const deadlineMs = performance.now() + settings.timeLimitMs;
  const measurements: Measurement[] = [];
  const [firstThreads = 1, ...otherThreads] = settings.threads;
  let note: string | undefined;
  for (const microBatch of settings.microBatches) {
    note = foreseeLimit(measurements, microBatch, settings.memoryBudgetBytes, deadlineMs);
    if (note !== undefined) break;
    const giveUpMs =
      measurements.length === 0
        ? Math.max(deadlineMs, performance.now() + (settings.patienceMs ?? 0))
        : deadlineMs;
    const outcome = await tryMeasure(
      device,
      { microBatch, threads: firstThreads },
      settings,
      deadlineMs,
      giveUpMs,
    );
    if (typeof outcome !== 'string') {
      measurements.push(outcome);
      continue;
    }
    if (measurements.length === 0) {
      return { ...device, available: false, reason: outcome, measurements, tried: true };
    }
    note = `${plural(microBatch, 'image')} at once: ${outcome}`;
    break;
  }
  const best = fastest(measurements);
  if (device.kind === 'cpu' && best !== undefined) {
    for (const threads of otherThreads) {
      if (performance.now() + expectedMs(best, best.microBatch) > deadlineMs) break;
      const outcome = await tryMeasure(
        device,
        { microBatch: best.microBatch, threads },
        settings,
        deadlineMs,
      );
      if (typeof outcome !== 'string') measurements.push(outcome);
    }
  }
  return { ...device, measurements, tried: true, ...(note === undefined ? {} : { note }) };
}

/** The measurement with the most images per second. */
export function fastest(measurements: readonly Measurement[]): Measurement | undefined {
  return [...measurements].sort((a, b) => b.imagesPerSecond - a.imagesPerSecond)[0];
}

/** What speaks against the next size, as far as the last ones tell. */
function foreseeLimit(
  measured: readonly Measurement[],
  microBatch: number,
  memoryBudgetBytes: number,
  deadlineMs: number,
): string | undefined {
  const last = measured.at(-1);
  if (last === undefined) return undefined;
  if (expectedMemoryBytes(measured, microBatch) > memoryBudgetBytes) {
    return `${plural(microBatch, 'image')} at once would need more memory than is free.`;
  }
  return performance.now() + expectedMs(last, microBatch) > deadlineMs
    ? `${plural(microBatch, 'image')} at once: not measured, because time ran out.`
    : undefined;
}

/** On the line through the last two sizes; in proportion to the only one. */
export function expectedMemoryBytes(measured: readonly Measurement[], microBatch: number): number {
  const last = measured.at(-1)!;
  const before = measured.at(-2);
  if (before === undefined) return (last.peakMemoryBytes * microBatch) / last.microBatch;
  const perImage = (last.peakMemoryBytes - before.peakMemoryBytes) / (last.microBatch - before.microBatch);
  return last.peakMemoryBytes + Math.max(0, perImage) * (microBatch - last.microBatch);
}

/** Compiling, a first step and one more. */
function expectedMs(last: Measurement, microBatch: number): number {
  const stepMs = (1000 / last.stepsPerSecond) * (microBatch / last.microBatch);
  return last.compileMs + 2 * stepMs;
}

/** @returns the reason in words when it fails */
async function tryMeasure(
  device: Device,
  size: { microBatch: number; threads: number },
  settings: MeasureSettings,
  deadlineMs: number,
  giveUpMs = deadlineMs,
): Promise<Measurement | string> {
  settings.onProgress?.(device, size);
  const remainingMs = Math.max(1, deadlineMs - performance.now());
  const tooLong = AbortSignal.timeout(Math.ceil(Math.max(1, giveUpMs - performance.now())));
  const signals = settings.signal === undefined ? [tooLong] : [tooLong, settings.signal];
  const { modelsFolder } = settings;
  await using trainer = startTrainer({
    cancelTimeoutMs,
    ...(modelsFolder === undefined ? {} : { modelsFolder }),
  });
  try {
    const measured = await trainer.measure(
      {
        baseId: settings.baseId,
        engine: device.engine,
        device: device.kind,
        threads: size.threads,
        batchSize: size.microBatch,
        steps: maxSteps,
        timeLimitMs: remainingMs / 4,
      },
      { signal: AbortSignal.any(signals) },
    );
    return { ...size, ...measured };
  } catch (thrown) {
    if (settings.signal?.aborted) throw new AppError('CANCELLED', 'The measurement was stopped.');
    if (tooLong.aborted) return 'One step took longer than the time available.';
    const error = toAppError(thrown);
    // The base model is missing or damaged: no device can help that.
    if (error.code.startsWith('MODEL_')) throw error;
    return error.message;
  }
}
