/**
 * Where this installation trains: what a person kept of `anneal doctor`'s recommendation, in `device.json` of the
 * data folder. Without that file a site trains on the processor.
 */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { AppError } from '../../shared/errors.ts';
import { jsonText } from '../../shared/text.ts';
import { writeFileAtomically } from '../../store/atomic-file.ts';
import { deviceKinds, engineNames } from '../engine.ts';

const deviceChoiceSchema = z.object({
  version: z.literal(1),
  engine: z.enum(engineNames),
  device: z.enum(deviceKinds),
  /** Processor threads of the trainer. */
  threads: z.number().int().min(1).max(1024),
  /** Base model that was measured; `microBatch` is good for this one only. */
  baseId: z.string(),
  /** Images that go through the network at once; a batch is made of several when it is larger. */
  microBatch: z.number().int().min(1).max(65_536),
  /** What the trainer may use: of the computer's memory on the processor, else of the device's where known. */
  memoryBudgetBytes: z.number().int().positive(),
  /** When it was measured, ISO 8601. */
  measuredAt: z.iso.datetime(),
});

export type DeviceChoice = z.infer<typeof deviceChoiceSchema>;

/** The part of a training job that says where it runs. */
export type ComputeSettings = Pick<DeviceChoice, 'engine' | 'device' | 'threads'> &
  Partial<Pick<DeviceChoice, 'microBatch' | 'memoryBudgetBytes'>>;

const fileName = 'device.json';

/**
 * Where a job on `baseId` runs: the processor when nothing was chosen. Images at once hold for the base model that
 * was measured; for another one the job finds them from the memory.
 * @param threads what a person asked for by option; goes before what was measured
 */
export function computeSettings(
  choice: DeviceChoice | null,
  baseId: string,
  threads?: number,
): ComputeSettings {
  if (choice === null) {
    return { engine: 'onnxruntime', device: 'cpu', threads: threads ?? availableParallelism() };
  }
  const { engine, device, memoryBudgetBytes, microBatch } = choice;
  const settings = { engine, device, threads: threads ?? choice.threads, memoryBudgetBytes };
  return choice.baseId === baseId ? { ...settings, microBatch } : settings;
}

/**
 * @param dataFolder path of the data folder
 * @returns null when nobody has kept a recommendation
 * @throws AppError CONFIG_INVALID when the file is not one that Anneal wrote
 */
export async function readDeviceChoice(dataFolder: string): Promise<DeviceChoice | null> {
  let text: string;
  try {
    text = await readFile(join(dataFolder, fileName), 'utf8');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw invalidChoice('cannot be read', thrown);
  }
  const parsed = jsonText.pipe(deviceChoiceSchema).safeParse(text);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  const what = path.length === 0 ? `is ${message}` : `has an unusable "${path.join('.')}": ${message}`;
  throw invalidChoice(what, parsed.error);
}

/** Written whole or not at all. @throws the system's error, for instance ENOSPC */
export async function writeDeviceChoice(dataFolder: string, choice: DeviceChoice): Promise<void> {
  const text = `${JSON.stringify(deviceChoiceSchema.parse(choice), null, 2)}\n`;
  await writeFileAtomically(join(dataFolder, fileName), new TextEncoder().encode(text));
}

function invalidChoice(what: string, cause: unknown): AppError {
  return new AppError('CONFIG_INVALID', `The file ${fileName} of the data folder ${what}.`, {
    action: `Run "anneal doctor --save" to write it again, or delete it to train on the processor.`,
    cause,
  });
}
