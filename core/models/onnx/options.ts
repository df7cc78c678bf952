/** What a person says about an ONNX file, and what its inspection tells back. */
import { z } from 'zod';

const perChannel = z.tuple([z.number(), z.number(), z.number()]);

/** How the file's network is to be used: settings that the file itself does not hold. */
export const onnxOptionsSchema = z.strictObject({
  /** Catalogue id of the base model that it becomes. */
  id: z.string().min(1),
  licence: z.string(),
  /** Side of the square input in pixels; needed when the file leaves height and width open. */
  inputSize: z.number().int().positive().max(4096).optional(),
  /** Means of red, green and blue of the pixels scaled to 0…1; needed unless the file normalises its pixels itself. */
  mean: perChannel.optional(),
  /** Deviations of red, green and blue of the pixels scaled to 0…1. */
  deviation: perChannel.refine((values) => values.every((value) => value > 0), 'must be above 0').optional(),
  /** Order of the channels that the network was trained with. */
  channelOrder: z.enum(['rgb', 'bgr']).optional(),
  /** Name of the value that is the embedding: a graph output or any value inside. */
  output: z.string().min(1).optional(),
  /** How tokens [batch, tokens, d] or a feature map [batch, d, h, w] become one embedding. */
  pooling: z.enum(['mean', 'first']).optional(),
  /** Factor on the embedding before the head; derived from the network's last operator when absent. */
  headGain: z.number().positive().optional(),
});

export type OnnxOptions = z.infer<typeof onnxOptionsSchema>;

/** One input or output of the file; an open size is its symbol's name or -1. */
export interface OnnxValueDescription {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly (number | string)[];
}

export interface UnsupportedOperator {
  /** With its domain in front when it is not ONNX's own. */
  readonly op: string;
  readonly node: string;
}

export interface OnnxDescription {
  readonly producer: string;
  /** Version of ONNX's own operator set. */
  readonly opset: number;
  readonly inputs: readonly OnnxValueDescription[];
  readonly outputs: readonly OnnxValueDescription[];
  /** How often each operator occurs in the file. */
  readonly operators: Readonly<Record<string, number>>;
  /** Operators that stop this file from being a base model. */
  readonly unsupported: readonly UnsupportedOperator[];
  /** Floating-point values in initializers of more than one value. */
  readonly parameterCount: number;
  /** Bytes of the weights outside the file itself. */
  readonly externalBytes: number;
  /** Files that hold them, relative to the folder of the ONNX file; the catalogue copies them with it. */
  readonly externalFiles?: readonly string[];
}
