/**
 * What a training run needs to go on after its process was killed: factors, optimiser, position and sums. The
 * random numbers need no state of their own: they follow from the job's seed and the position.
 */
import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { z } from 'zod';
import { decodeSafetensors, encodeSafetensors } from '../lora/safetensors.ts';
import { canonicalJson, hashJson } from '../shared/hash.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { deleteUnfinishedWrites, writeFileAtomically } from '../store/atomic-file.ts';
import type { ComputeWishes } from './compute-plan.ts';
import { deviceKinds } from './engine.ts';
import type { ComputePlan } from './fallback.ts';
import type { Optimiser } from './optimiser.ts';
import { type TrainEvent, type TrainJob, trainEventSchema } from './trainer-protocol.ts';

const version = 3;
const metadataKey = 'anneal_checkpoint';
const parameterPrefix = 'parameter/';
const momentPrefix = 'moment/';
/** At the end of the file: SHA-256 of all before it. A flipped bit of a number is a number, too. */
const digestBytes = 32;

const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();

/** How far a run has come. */
export interface RunPosition {
  /** Finished optimiser steps. */
  step: number;
  /** Images shown in them. */
  images: number;
  /** Sum over the images of their batch's loss. */
  lossSum: number;
  events: TrainEvent[];
}

const positionSchema = z.object({
  version: z.literal(version),
  identity: z.string(),
  step: z.number().int().positive(),
  images: z.number().int().positive(),
  lossSum: z.number(),
  events: z.array(trainEventSchema),
  plan: z.object({
    device: z.enum(deviceKinds),
    microBatch: z.number().int().positive(),
    lanes: z.number().int().positive(),
  }),
  /** What the job asked for when it got that plan. */
  wishes: z.string(),
});

/** What a checkpoint reads from and writes to. */
export interface CheckpointSubject {
  identity: string;
  wishes: ComputeWishes;
  /** Those that train, by name. */
  parameters: ReadonlyMap<string, FloatTensor>;
  optimiser: Optimiser;
}

/**
 * Names everything that decides the result of a job but where and in what portions it is computed. Crops are
 * named by their files, which are named by their content in a data folder; a cohort without an image whose
 * consent was withdrawn is thus another job.
 */
export function jobIdentity(job: TrainJob, baseSha256: string, stateSha256: string): string {
  const { examples, mode, lastK, trains, training, seed, engine } = job;
  return hashJson({
    version,
    baseSha256,
    stateSha256,
    examples,
    mode,
    lastK,
    trains,
    training,
    seed,
    engine,
  });
}

/**
 * Puts parameters and optimiser back to where the checkpoint was written.
 * @returns the position and the plan, or undefined (with nothing changed) when there is no checkpoint of this
 *   job, or `damaged` when its bytes are not those that were written; either is deleted
 */
export async function restoreCheckpoint(
  file: string,
  subject: CheckpointSubject,
): Promise<{ position: RunPosition; plan: ComputePlan | undefined } | 'damaged' | undefined> {
  const stored = await readFile(file).catch(() => undefined);
  if (stored === undefined) return undefined;
  const bytes = stored.subarray(0, -digestBytes);
  if (!digestOf(bytes).equals(stored.subarray(-digestBytes))) {
    await deleteCheckpoint(file);
    return 'damaged';
  }
  try {
    return restore(bytes, subject);
  } catch {
    await deleteCheckpoint(file);
    return undefined;
  }
}

function restore(bytes: Uint8Array, subject: CheckpointSubject) {
  const { tensors, metadata } = decodeSafetensors(bytes, 'the checkpoint');
  const stored = positionSchema.parse(JSON.parse(metadata[metadataKey] ?? ''));
  if (stored.identity !== subject.identity) throw new Error('a checkpoint of another job');
  const moments = new Map<string, Float32Array>();
  for (const [name, { data }] of tensors) {
    if (name.startsWith(momentPrefix)) moments.set(name.slice(momentPrefix.length), data);
  }
  for (const [name, { data }] of subject.parameters) {
    const found = tensors.get(`${parameterPrefix}${name}`);
    if (found?.data.length !== data.length) throw new Error('a parameter of another shape');
  }
  subject.optimiser.restore(stored.step, moments);
  for (const [name, { data }] of subject.parameters) data.set(tensors.get(`${parameterPrefix}${name}`)!.data);
  const { step, images, lossSum, events, plan } = stored;
  const samePlan = stored.wishes === wishText(subject.wishes);
  return { position: { step, images, lossSum, events }, plan: samePlan ? plan : undefined };
}

/** Written whole or not at all. @throws the system's error, for instance ENOSPC */
export async function writeCheckpoint(
  file: string,
  subject: CheckpointSubject,
  position: RunPosition,
  plan: ComputePlan,
): Promise<void> {
  const tensors = new Map<string, FloatTensor>();
  for (const [name, tensor] of subject.parameters) tensors.set(`${parameterPrefix}${name}`, tensor);
  for (const [name, data] of subject.optimiser.moments) {
    tensors.set(`${momentPrefix}${name}`, floatTensor([data.length], data));
  }
  const { identity, wishes } = subject;
  const stored: z.input<typeof positionSchema> = {
    version,
    identity,
    ...position,
    plan,
    wishes: wishText(wishes),
  };
  const bytes = encodeSafetensors(tensors, { [metadataKey]: JSON.stringify(stored) });
  await writeFileAtomically(file, [bytes, digestOf(bytes)]);
}

export async function deleteCheckpoint(file: string): Promise<void> {
  await rm(file, { force: true }).catch(() => {});
  await deleteUnfinishedWrites(file).catch(() => {});
}

function wishText({ device, threads, microBatch, memoryBudgetBytes }: ComputeWishes): string {
  return canonicalJson({
    device,
    threads,
    microBatch: microBatch ?? null,
    memoryBudgetBytes: memoryBudgetBytes ?? null,
  });
}
