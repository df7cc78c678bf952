/** Embeddings for comparing faces with each other. */

/**
 * The embedding at length 1; with the mirrored picture's, the mean of both at length 1, itself at length 1. A face and its mirror
 * image are the same person, and the mean has less of what depends on the side.
 */
export function averaged(embedding: Float32Array, mirrored?: Float32Array): Float32Array {
  const own = atLengthOne(embedding);
  if (mirrored === undefined) return own;
  const other = atLengthOne(mirrored);
  return atLengthOne(own.map((value, index) => value + other[index]!));
}

/** All zeros stay zeros. */
function atLengthOne(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const factor = squares > 0 ? 1 / Math.sqrt(squares) : 0;
  return vector.map((value) => value * factor);
}
