/** Lines of JSON between the harness and the processes that it measures. */
import { z } from 'zod';

const bytes = z.number().int().nonnegative();
const base = { peakBytes: bytes };

export const readySchema = z.object({
  ...base,
  type: z.literal('ready'),
  /** Resident memory when everything was imported and nothing loaded yet. */
  importedBytes: bytes,
  /** PyTorch only: resident parts of CUDA's libraries, which its usual package loads on every machine. */
  cudaLibraryBytes: bytes.optional(),
  /** Until the first step can begin: opening the model, building and compiling. */
  prepareSeconds: z.number(),
  /** Anneal only: building the graph and compiling it. */
  compileSeconds: z.number().optional(),
  /** Anneal only: images that a lane computes at once. */
  microBatch: z.number().int().positive().optional(),
  /** Anneal only: threads that compute parts of a batch at the same time. */
  lanes: z.number().int().positive().optional(),
  /** Anneal only: arithmetic of the matrix products of one step. */
  flopsPerStep: z.number().optional(),
  versions: z.record(z.string(), z.string()),
});
export const checkedSchema = z.object({ ...base, type: z.literal('checked'), loss: z.number() });
export const steppedSchema = z.object({
  ...base,
  type: z.literal('stepped'),
  seconds: z.number().positive(),
  optimiserSeconds: z.number().nonnegative(),
  loss: z.number(),
});

/** What the machine's matrix products reach: see matrix-peak.ts. */
export const peakReadySchema = z.object({ type: z.literal('ready') });
export const peakSchema = z.object({ type: z.literal('stepped'), flopsPerSecond: z.number().positive() });

/** See images.ts. */
export const pipelineSchema = z.object({
  /** Crops imported: read, decoded, fitted to a square, stored. */
  importCropsPerSecond: z.number(),
  /** Photographs imported: decoded, face found and aligned, stored. */
  importPhotographsPerSecond: z.number(),
  /** Crops decoded and augmented. */
  firstEpochPerSecond: z.number(),
  /** Crops in memory augmented. */
  laterEpochsPerSecond: z.number(),
});
export type Pipeline = z.infer<typeof pipelineSchema>;

export type Ready = z.infer<typeof readySchema>;
export type Stepped = z.infer<typeof steppedSchema>;

export const requestSchema = z.discriminatedUnion('type', [
  /** One batch forward and backward; gradients are written to a safetensors file, nothing is updated. */
  z.object({ type: z.literal('check'), file: z.string() }),
  z.object({ type: z.literal('steps'), count: z.number().int().positive() }),
  z.object({ type: z.literal('exit') }),
]);
export type Request = z.infer<typeof requestSchema>;
