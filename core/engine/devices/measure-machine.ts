/** The check-up of a computer: real training steps on every device, and what to train on. */
import { availableParallelism } from 'node:os';
import { pick } from '../../shared/pick.ts';
import type { Device } from '../engine.ts';
import type { DeviceChoice } from './device-choice.ts';
import { type MeasuredDevice, type MeasureSettings, measureDevice } from './measure-devices.ts';
import { deviceBudgetBytes, readHostMemory } from './memory-budget.ts';
import { describeProcessor } from './processor.ts';
import { type Recommendation, recommend } from './recommend.ts';

export interface CheckupSettings
  extends Pick<MeasureSettings, 'baseId' | 'modelsFolder' | 'signal' | 'onProgress'> {
  /** Images of one optimiser step. */
  batchSize: number;
  /** For all devices together, in milliseconds. */
  timeLimitMs: number;
}

export interface Checkup {
  baseId: string;
  batchSize: number;
  devices: readonly MeasuredDevice[];
  recommendation: Recommendation | null;
  /** The recommendation as a data folder keeps it. */
  choice: DeviceChoice | null;
  /** Of the computer's memory, how much the trainer may take. */
  memoryBudgetBytes: number;
}

/** A busy computer is no computer without a processor: its smallest measurement gets this long, whatever the limit. */
const processorPatienceMs = 60_000;
/** How many sizes below the batch are measured. */
const halvings = 2;

/** @throws AppError CANCELLED | MODEL_UNKNOWN | MODEL_FILE_INVALID */
export async function measureMachine(
  devices: readonly Device[],
  settings: CheckupSettings,
): Promise<Checkup> {
  const { baseId, batchSize } = settings;
  const host = readHostMemory();
  const threads = await threadCandidates();
  const measured: MeasuredDevice[] = [];
  let remainingMs = settings.timeLimitMs;
  let waiting = devices.filter((device) => device.available).length;
  for (const device of devices) {
    const startMs = performance.now();
    measured.push(
      await measureDevice(device, {
        ...pick(settings, 'baseId', 'modelsFolder', 'signal', 'onProgress'),
        microBatches: microBatchCandidates(batchSize),
        threads: device.kind === 'cpu' ? threads : threads.slice(0, 1),
        memoryBudgetBytes: deviceBudgetBytes(device, host),
        timeLimitMs: remainingMs / Math.max(1, waiting),
        ...(device.engine === 'onnxruntime' && device.kind === 'cpu'
          ? { patienceMs: processorPatienceMs }
          : {}),
      }),
    );
    if (!device.available) continue;
    waiting--;
    remainingMs = Math.max(1, remainingMs - (performance.now() - startMs));
  }
  const recommendation = recommend(measured, batchSize);
  const chosen = measured.find(
    ({ engine, kind }) => engine === recommendation?.engine && kind === recommendation.device,
  );
  const memoryBudgetBytes = deviceBudgetBytes(chosen ?? measured[0]!, host);
  return {
    baseId,
    batchSize,
    devices: measured,
    recommendation,
    memoryBudgetBytes,
    choice: recommendation && toChoice(recommendation, baseId, memoryBudgetBytes),
  };
}

/** The batch and its halves, the smallest first, as far as they divide it: for 16 these are 4, 8 and 16. */
export function microBatchCandidates(batchSize: number): number[] {
  const sizes = [batchSize];
  while (sizes.length <= halvings && sizes[0]! % 2 === 0) sizes.unshift(sizes[0]! / 2);
  return sizes;
}

/** Physical cores first: two threads of one core share its arithmetic. */
async function threadCandidates(): Promise<number[]> {
  const { cores } = await describeProcessor();
  return [...new Set([cores, availableParallelism()])];
}

function toChoice(recommendation: Recommendation, baseId: string, memoryBudgetBytes: number): DeviceChoice {
  const { engine, device, threads, microBatch } = recommendation;
  const measuredAt = new Date().toISOString();
  return { version: 1, engine, device, threads, baseId, microBatch, memoryBudgetBytes, measuredAt };
}
