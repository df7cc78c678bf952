/** The elementwise operators of GraphBuilder, with numpy's broadcasting. */
import type { DataType } from '../shared/tensor.ts';
import { GraphWriter } from './graph-writer.ts';
import { castTypeCodes } from './infer.ts';

export class ElementwiseBuilder extends GraphWriter {
  add(a: string, b: string): string {
    return this.append1('Add', [a, b]);
  }
  sub(a: string, b: string): string {
    return this.append1('Sub', [a, b]);
  }
  mul(a: string, b: string): string {
    return this.append1('Mul', [a, b]);
  }
  div(a: string, b: string): string {
    return this.append1('Div', [a, b]);
  }
  pow(a: string, b: string): string {
    return this.append1('Pow', [a, b]);
  }
  equal(a: string, b: string): string {
    return this.append1('Equal', [a, b]);
  }
  greater(a: string, b: string): string {
    return this.append1('Greater', [a, b]);
  }
  less(a: string, b: string): string {
    return this.append1('Less', [a, b]);
  }
  /** `condition` is bool; takes `a` where true, else `b`. */
  where(condition: string, a: string, b: string): string {
    return this.append1('Where', [condition, a, b]);
  }
  abs(x: string): string {
    return this.append1('Abs', [x]);
  }
  /** -1, 0 or 1; no gradient goes through it. */
  sign(x: string): string {
    return this.append1('Sign', [x]);
  }
  reciprocal(x: string): string {
    return this.append1('Reciprocal', [x]);
  }
  min(a: string, b: string): string {
    return this.append1('Min', [a, b]);
  }
  max(a: string, b: string): string {
    return this.append1('Max', [a, b]);
  }
  /** Keeps values within the bounds; an absent bound does not bound. */
  clip(x: string, bounds: { min?: number; max?: number }): string {
    const names = [bounds.min, bounds.max].map((bound) => (bound === undefined ? '' : this.scalar(bound)));
    return this.append1('Clip', [x, ...names]);
  }
  leakyRelu(x: string, alpha = 0.01): string {
    return this.append1('LeakyRelu', [x], { alpha: { float: alpha } });
  }
  /** x where positive, else slope · x. @param slope broadcasts to the shape of x: [channels, 1, 1] for images */
  prelu(x: string, slope: string): string {
    return this.append1('PRelu', [x, slope]);
  }
  elu(x: string, alpha = 1): string {
    return this.append1('Elu', [x], { alpha: { float: alpha } });
  }
  /** log(1 + exp x) */
  softplus(x: string): string {
    return this.append1('Softplus', [x]);
  }
  neg(x: string): string {
    return this.append1('Neg', [x]);
  }
  sqrt(x: string): string {
    return this.append1('Sqrt', [x]);
  }
  exp(x: string): string {
    return this.append1('Exp', [x]);
  }
  log(x: string): string {
    return this.append1('Log', [x]);
  }
  erf(x: string): string {
    return this.append1('Erf', [x]);
  }
  tanh(x: string): string {
    return this.append1('Tanh', [x]);
  }
  sigmoid(x: string): string {
    return this.append1('Sigmoid', [x]);
  }
  relu(x: string): string {
    return this.append1('Relu', [x]);
  }
  /** The exact form x·Φ(x). */
  gelu(x: string): string {
    return this.append1('Gelu', [x]);
  }
  identity(x: string): string {
    return this.append1('Identity', [x]);
  }
  cast(x: string, to: DataType): string {
    return this.append1('Cast', [x], { to: castTypeCodes[to] });
  }
}
