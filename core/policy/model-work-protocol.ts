/** What the agent and the process that opens a stranger's network say to each other. Both ends parse it with these schemas. */
import { z } from 'zod';
import { alignmentSchema } from '../config/alignment.ts';
import { normalisationSchema, preprocessingSchema } from '../config/preprocessing.ts';
import { adaptableSchema, modelIdSchema, modelManifestSchema } from '../models/installed-models.ts';
import { importOptionsSchema } from '../models/model-formats.ts';
import { errorReportSchema } from '../shared/errors.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';

const path = z.string().min(1).max(4_096);
const name = z.string().max(10_000);

export const modelOrderSchema = z.discriminatedUnion('type', [
  /** Looks at a file or folder, and writes nothing. */
  z.strictObject({ type: z.literal('inspect'), path, options: importOptionsSchema }),
  /** `workId`: of the folder that holds what is unfinished. */
  z.strictObject({
    type: z.literal('import'),
    path,
    options: importOptionsSchema,
    modelsFolder: path,
    workId: z.uuid(),
  }),
  /** Opens an installed model to count its layers. */
  z.strictObject({ type: z.literal('count'), modelsFolder: path, id: modelIdSchema }),
]);
export type ModelOrder = z.infer<typeof modelOrderSchema>;

/** A second message: ends the work in order. */
export const cancelSchema = z.strictObject({ type: z.literal('cancel') });

export const modelQuestionSchema = z.discriminatedUnion('about', [
  z.strictObject({ about: z.literal('pixels') }),
  z.strictObject({ about: z.literal('range'), operators: z.array(name).max(1_000).readonly() }),
  z.strictObject({ about: z.literal('imageSize') }),
  z.strictObject({ about: z.literal('output'), choices: z.array(name).max(10_000).readonly() }),
  z.strictObject({
    about: z.literal('pooling'),
    choices: z
      .array(z.enum(['class', 'first', 'mean']))
      .max(3)
      .readonly(),
  }),
]);

const count = z.int().nonnegative();

export const importFindingSchema = z.strictObject({
  id: name,
  format: z.enum(['vit', 'onnx']),
  licence: z.string().nullable(),
  questions: z.array(modelQuestionSchema).max(5).readonly(),
  model: z
    .strictObject({
      sha256: sha256Schema.nullable(),
      inputSize: count,
      alignment: alignmentSchema,
      alignmentAssumed: z.boolean(),
      embeddingSize: count,
      normalisation: normalisationSchema.nullable(),
      preprocessing: preprocessingSchema.nullable(),
      parameters: count,
      adaptable: adaptableSchema,
    })
    .nullable(),
});

export const modelReplySchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('progress'),
    step: z.enum(['copying', 'opening', 'drawing faces', 'computing embeddings', 'rebuilding faces']),
    share: z.number().min(0).max(1),
  }),
  z.strictObject({ type: z.literal('found'), finding: importFindingSchema }),
  /** `isNew`: false where the same model stood there already. */
  z.strictObject({ type: z.literal('imported'), manifest: modelManifestSchema, isNew: z.boolean() }),
  z.strictObject({ type: z.literal('counted'), sha256: sha256Schema, adaptable: adaptableSchema }),
  z.strictObject({ type: z.literal('failed'), error: errorReportSchema }),
]);
export type ModelReply = z.infer<typeof modelReplySchema>;
/** A reply that ends the work. */
export type ModelResult = Exclude<ModelReply, { type: 'progress' | 'failed' }>;
