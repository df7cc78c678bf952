/** The TensorFlow engine: the same graph through the operations of TensorFlow.js. */
import type { Engine } from '../engine.ts';

export function createTensorFlowEngine(): Engine {
  throw new Error('not there yet');
}
