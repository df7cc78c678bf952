/** The identity of a base model: a hash that depends on its weights alone, not on the file they came from. */
import { createHash } from 'node:crypto';
import { endianness } from 'node:os';
import type { FloatTensor } from '../shared/tensor.ts';

/**
 * SHA-256 over the weights in the order of their names; of each the JSON of its name and shape, a line
 * feed, then its float32 values in little-endian order.
 */
export function hashWeights(weights: ReadonlyMap<string, FloatTensor>): string {
  const hash = createHash('sha256');
  for (const name of [...weights.keys()].sort()) {
    const { dims, data } = weights.get(name)!;
    hash.update(`${JSON.stringify([name, dims])}\n`);
    hash.update(littleEndianBytes(data));
  }
  return hash.digest('hex');
}

function littleEndianBytes(data: Float32Array): Uint8Array {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return endianness() === 'LE' ? bytes : Buffer.from(bytes).swap32();
}
