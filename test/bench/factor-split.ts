/**
 * How a decomposed ΔW should be split into A and B for the next round: a small linear problem with known answer.
 * Run: `node test/bench/factor-split.ts` (about 20 s of CPU). docs/method.md says what came out.
 *
 * Five sites fit y = ΔW*·x (48 × 48, rank 8, falling spectrum), each on inputs of which half of the axes are strong,
 * other halves at each site. Local training: AdamW's steps without decay, 20 a round, warm-up and cosine.
 */
import { createFactorSum } from '../../core/lora/factor-sum.ts';
import { createRandom, type Random } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';

const [size, sites, rank, scale, steps, batch, rounds] = [48, 5, 8, 2, 20, 16, 12];

interface Factors {
  /** rank × size */
  a: Float32Array;
  /** size × rank */
  b: Float32Array;
}
type Split = 'balanced' | 'A as long as at first' | 'A = Vᵀ, B = U·Σ' | 'means of factors';

/** x ← M·y for a row-major M. */
function product(matrix: ArrayLike<number>, rows: number, y: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: rows }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < y.length; j++) sum += matrix[i * y.length + j]! * y[j]!;
    return sum;
  });
}

function createTarget(random: Random, strength: number): Float64Array {
  const target = new Float64Array(size * size);
  for (let k = 0; k < 8; k++) {
    const [u, v] = [0, 1].map(() => Array.from({ length: size }, () => random.normal()));
    const factor = (4 * strength * 0.7 ** k) / size;
    for (let i = 0; i < target.length; i++) target[i]! += factor * u![Math.floor(i / size)]! * v![i % size]!;
  }
  return target;
}

function createAdam(values: Float32Array): (gradient: Float64Array, step: number, rate: number) => void {
  const [mean, square] = [new Float64Array(values.length), new Float64Array(values.length)];
  return (gradient, step, rate) => {
    for (let i = 0; i < values.length; i++) {
      mean[i] = 0.9 * mean[i]! + 0.1 * gradient[i]!;
      square[i] = 0.999 * square[i]! + 0.001 * gradient[i]! ** 2;
      const first = mean[i]! / (1 - 0.9 ** step);
      values[i]! -= (rate * first) / (Math.sqrt(square[i]! / (1 - 0.999 ** step)) + 1e-8);
    }
  };
}

/** One site's round: its factors after `steps` steps on its own inputs. */
function train(start: Factors, inputs: readonly number[][], target: Float64Array, rate: number): Factors {
  const trained = { a: start.a.slice(), b: start.b.slice() };
  const [moveA, moveB] = [createAdam(trained.a), createAdam(trained.b)];
  for (let step = 1; step <= steps; step++) {
    const [ofA, ofB] = [new Float64Array(trained.a.length), new Float64Array(trained.b.length)];
    for (let k = 0; k < batch; k++) {
      const x = inputs[(step * batch + k) % inputs.length]!;
      const hidden = product(trained.a, rank, x);
      const wanted = product(target, size, x);
      const error = product(trained.b, size, hidden).map((value, i) => scale * value - wanted[i]!);
      for (let c = 0; c < rank; c++) {
        let back = 0;
        for (let i = 0; i < size; i++) {
          ofB[i * rank + c]! += scale * error[i]! * hidden[c]!;
          back += trained.b[i * rank + c]! * error[i]!;
        }
        for (let j = 0; j < size; j++) ofA[c * size + j]! += scale * back * x[j]!;
      }
    }
    const now = (rate * Math.min(1, step / 2) * (1 + Math.cos((Math.PI * step) / steps))) / 2;
    moveA(ofA, step, now);
    moveB(ofB, step, now);
  }
  return trained;
}

function merge(parts: readonly Factors[], split: Split, seed: number): Factors {
  const mean = (factor: 'a' | 'b') =>
    parts[0]![factor].map((_, i) => parts.reduce((sum, part) => sum + part[factor][i]! / sites, 0));
  if (split === 'means of factors') return { a: mean('a'), b: mean('b') };
  const sum = createFactorSum([rank, size], [size, rank], null);
  for (const { a, b } of parts) {
    sum.add({ weight: 1 / sites, scale, a: floatTensor([rank, size], a), b: floatTensor([size, rank], b) });
  }
  const cut = sum.truncate(rank, scale, { seed });
  const [a, b] = [cut.a.data.slice(), cut.b.data.slice()];
  // The product's own split is "A as long as at first".
  for (let k = 0; k < rank && split !== 'A as long as at first'; k++) {
    const length = Math.hypot(...a.subarray(k * size, (k + 1) * size));
    const other = Math.hypot(...Array.from({ length: size }, (_, i) => b[i * rank + k]!));
    const wanted = split === 'A = Vᵀ, B = U·Σ' || other === 0 ? 1 : Math.sqrt(length * other);
    for (let j = 0; j < size; j++) a[k * size + j]! *= wanted / length;
    for (let i = 0; i < size; i++) b[i * rank + k]! *= length / wanted;
  }
  return { a, b };
}

/** ‖ΔW − ΔW*‖² / ‖ΔW*‖² after each round. */
function run(split: Split, rate: number, strength: number, seed: number): number[] {
  const random = createRandom(seed);
  const target = createTarget(random, strength);
  const inputs = Array.from({ length: sites }, () => {
    const axes = Array.from({ length: size }, () => (random.uniform() < 0.5 ? 1 : 0.1));
    return Array.from({ length: 64 }, () => axes.map((width) => width * random.normal()));
  });
  const first = Float32Array.from(
    { length: rank * size },
    () => (2 * random.uniform() - 1) / Math.sqrt(size),
  );
  let global: Factors = { a: first, b: new Float32Array(size * rank) };
  return Array.from({ length: rounds }, (_, round) => {
    const parts = inputs.map((own) => train(global, own, target, rate));
    global = merge(parts, split, round);
    let [error, whole] = [0, 0];
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        let value = 0;
        for (let c = 0; c < rank; c++) value += scale * global.b[i * rank + c]! * global.a[c * size + j]!;
        error += (value - target[i * size + j]!) ** 2;
        whole += target[i * size + j]! ** 2;
      }
    }
    return error / whole;
  });
}

const splits: Split[] = ['balanced', 'A as long as at first', 'A = Vᵀ, B = U·Σ', 'means of factors'];
for (const strength of [0.1, 0.5]) {
  for (const rate of [0.002, 0.005, 0.01]) {
    for (const split of splits) {
      const runs = [1, 2, 3].map((seed) => run(split, rate, strength, seed));
      const after = (count: number) =>
        (runs.reduce((sum, errors) => sum + errors[count - 1]!, 0) / runs.length).toFixed(3);
      const row = [
        `size ${strength}`,
        `rate ${rate}`,
        split.padEnd(22),
        after(2),
        after(4),
        after(8),
        after(12),
      ];
      console.log(row.join('  '));
    }
  }
}
