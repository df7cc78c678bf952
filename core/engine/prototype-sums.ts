/**
 * Sums of embeddings by class: of each subject the mean of its embeddings of length 1, which no number of photographs makes
 * longer than 1; of each class the sum over its subjects. A class with too few of them is left out as a whole.
 */
export interface PrototypeSums {
  clear(): void;
  /** @returns false for an embedding that has no direction */
  add(embedding: Float32Array, label: number, subject: number): boolean;
  /** [classes, size], row after row; zeros for a class with fewer than `smallCell` subjects. */
  rows(options: { smallCell: number; divisor: number }): Float32Array;
}

export function prototypeSums({ classes, size }: { classes: number; size: number }): PrototypeSums {
  const ofClass = Array.from(
    { length: classes },
    () => new Map<number, { sum: Float64Array; images: number }>(),
  );
  return {
    clear: () => {
      for (const subjects of ofClass) subjects.clear();
    },
    add(embedding, label, subject) {
      let square = 0;
      for (const value of embedding) square += value * value;
      const norm = Math.sqrt(square);
      if (!(Number.isFinite(norm) && norm > 0)) return false;
      const subjects = ofClass[label]!;
      const mine = subjects.get(subject) ?? { sum: new Float64Array(size), images: 0 };
      for (let i = 0; i < size; i++) mine.sum[i]! += embedding[i]! / norm;
      mine.images += 1;
      subjects.set(subject, mine);
      return true;
    },
    rows({ smallCell, divisor }) {
      const rows = new Float32Array(classes * size);
      for (const [label, subjects] of ofClass.entries()) {
        if (subjects.size < smallCell) continue;
        const total = new Float64Array(size);
        for (const { sum, images } of subjects.values())
          for (let i = 0; i < size; i++) total[i]! += sum[i]! / images;
        for (let i = 0; i < size; i++) rows[label * size + i] = total[i]! / divisor;
      }
      return rows;
    },
  };
}
