/**
 * Perceptual hash of a face crop, for finding the same picture again after it was scaled, compressed or brightened:
 * the signs of the 16 × 16 lowest frequencies of a 32 × 32 brightness image, 256 bits (after the DCT hash of Zauner,
 * "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, which keeps 8 × 8: too few for faces, which
 * are all alike once aligned).
 */

export const hashedSide = 32;
const keptSide = 16;

/** cosines[frequency][position] of a DCT-II. */
const cosines = Array.from({ length: keptSide }, (_, frequency) =>
  Float64Array.from({ length: hashedSide }, (_, position) =>
    Math.cos((Math.PI * frequency * (2 * position + 1)) / (2 * hashedSide)),
  ),
);

/** @param brightness 32 × 32, row by row @returns 64 hex digits */
export function pictureHash(brightness: ArrayLike<number>): string {
  const rows = new Float64Array(hashedSide * keptSide);
  for (let y = 0; y < hashedSide; y++) {
    for (let frequency = 0; frequency < keptSide; frequency++) {
      let sum = 0;
      const wave = cosines[frequency]!;
      for (let x = 0; x < hashedSide; x++) sum += brightness[y * hashedSide + x]! * wave[x]!;
      rows[y * keptSide + frequency] = sum;
    }
  }
  const bits = new Uint8Array((keptSide * keptSide) / 8);
  for (let v = 0; v < keptSide; v++) {
    for (let u = 0; u < keptSide; u++) {
      let sum = 0;
      for (let y = 0; y < hashedSide; y++) sum += rows[y * keptSide + u]! * cosines[v]![y]!;
      const bit = v * keptSide + u;
      // The mean brightness says nothing of the picture: its bit stays 0.
      if (bit > 0 && sum > 0) bits[bit >> 3]! |= 1 << (bit & 7);
    }
  }
  return Buffer.from(bits).toString('hex');
}

/** Hashes made ready for many comparisons. */
export const hashWords = (hash: string): Uint32Array => {
  const bytes = Buffer.from(hash, 'hex');
  return Uint32Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(index * 4));
};

/** Number of bits that differ, or anything over `most` once it is more. */
export function hashDistance(a: Uint32Array, b: Uint32Array, most = Number.POSITIVE_INFINITY): number {
  let distance = 0;
  for (let index = 0; index < a.length && distance <= most; index++)
    distance += bitCount(a[index]! ^ b[index]!);
  return distance;
}

function bitCount(word: number): number {
  let count = word - ((word >>> 1) & 0x55555555);
  count = (count & 0x33333333) + ((count >>> 2) & 0x33333333);
  return (((count + (count >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}
