/** Masks of zeros and ones to multiply a gradient with: Where costs ONNX Runtime several times as much. */
import type { GraphBuilder } from '../graph-builder.ts';

/** So steep that any activation is at an end, and not so steep that a large one overflows. */
const steepness = 1e30;

/** 1 where `value` is positive, 0 elsewhere; in between for positive values below 1e-30, which do not occur. */
export function positiveMask(builder: GraphBuilder, value: string): string {
  const attributes = { alpha: { float: steepness }, beta: { float: 0 } };
  return builder.append1('HardSigmoid', [value], attributes);
}

/** 1 where a bool value is true, 0 elsewhere. */
export function asMask(builder: GraphBuilder, condition: string): string {
  return builder.cast(condition, 'float32');
}
