/** Weighted means of named tensors, one set at a time, in float64. */
import { elementCount, type FloatTensor, floatTensor, sameDims } from '../../shared/tensor.ts';
import { rejected } from '../check-update.ts';

export type NamedTensors = ReadonlyMap<string, FloatTensor>;

/** A mean over some of the sites: sums of weighted values in float64, and the sum of the weights. */
export interface PartialMean {
  readonly weight: number;
  readonly sums: ReadonlyMap<string, { readonly dims: readonly number[]; readonly sum: Float64Array }>;
}

export interface TensorMean {
  /** @throws AppError UPDATE_REJECTED when names or shapes differ from those added before */
  add(tensors: NamedTensors, weight: number): void;
  /** Adds what another mean has seen, as if it had been added here. @throws AppError UPDATE_REJECTED */
  merge(part: PartialMean): void;
  /** A view, not a copy: take it when nothing more is added. */
  toPart(): PartialMean;
  /** Empty when nothing, or nothing but empty maps, was added. */
  result(): Map<string, FloatTensor>;
  /** ‖mean − point‖² over the tensors of `point`, before rounding to float32. */
  squaredDistance(point: NamedTensors): number;
}

interface Sum {
  readonly dims: readonly number[];
  readonly sum: Float64Array;
}

/** Float32Array.from with a function takes twenty times as long. */
function divided(dims: readonly number[], sum: Float64Array, divisor: number): FloatTensor {
  const data = new Float32Array(sum.length);
  for (let i = 0; i < data.length; i++) data[i] = sum[i]! / divisor;
  return floatTensor(dims, data);
}

export function createTensorMean(): TensorMean {
  const sums = new Map<string, Sum>();
  let total = 0;

  /** Sums for these names and shapes: new ones the first time, the same ones ever after. */
  function slots(shapes: ReadonlyMap<string, { dims: readonly number[] }>): (readonly [string, Sum])[] {
    const isFirst = total === 0;
    if (!isFirst && shapes.size !== sums.size) throw rejected('its tensors differ from those of other sites');
    return [...shapes].map(([name, { dims }]) => {
      if (isFirst) sums.set(name, { dims, sum: new Float64Array(elementCount(dims)) });
      const slot = sums.get(name);
      if (slot === undefined || !sameDims(slot.dims, dims)) {
        throw rejected(`"${name}" differs in name or shape from those of other sites`);
      }
      return [name, slot];
    });
  }

  return {
    add(tensors, weight) {
      for (const [name, { sum }] of slots(tensors)) {
        const { data } = tensors.get(name)!;
        for (let i = 0; i < data.length; i++) sum[i]! += weight * data[i]!;
      }
      total += weight;
    },
    merge(part) {
      for (const [name, { sum }] of slots(part.sums)) {
        const other = part.sums.get(name)!.sum;
        for (let i = 0; i < other.length; i++) sum[i]! += other[i]!;
      }
      total += part.weight;
    },
    toPart: () => ({ weight: total, sums }),
    result() {
      return new Map([...sums].map(([name, { dims, sum }]) => [name, divided(dims, sum, total)]));
    },
    squaredDistance(point) {
      let squares = 0;
      for (const [name, { data }] of point) {
        const slot = sums.get(name);
        if (slot === undefined) continue;
        for (let i = 0; i < data.length; i++) squares += (slot.sum[i]! / total - data[i]!) ** 2;
      }
      return squares;
    },
  };
}
