/** Whether a network tells faces apart at all: a wrong normalisation or output stops no import by itself, it only spoils it. */
import type { BaseModel } from '../models/base-model.ts';
import { AppError } from '../shared/errors.ts';

/** Faces of different people that are looked at before the long part of a leak test. */
export const checkedFaces = 16;

/**
 * Least distance of embeddings from their mean, beside their own length. Measured on 16 drawn faces: trained networks have 0.3 to
 * 0.6, networks of random weights 0.005 and more; one whose pixels are normalised twice 0.0015 to 0.04.
 */
export const leastSpread = 0.004;
/** Where the file normalises its pixels and somebody asked for it once more, that is the likelier reason. */
export const leastSpreadInDoubt = 0.1;

/**
 * √(mean |e − mean e|² / mean |e|²): 0 when all embeddings are the same, near 1 when they have nothing in common.
 * @param embeddings row after row, `width` numbers each
 */
export function embeddingSpread(embeddings: Float32Array, width: number): number {
  const rows = embeddings.length / width;
  const mean = new Float64Array(width);
  for (const [at, value] of embeddings.entries()) mean[at % width]! += value / rows;
  let [apart, length] = [0, 0];
  for (const [at, value] of embeddings.entries()) {
    apart += (value - mean[at % width]!) ** 2;
    length += value ** 2;
  }
  return length === 0 ? 0 : Math.sqrt(apart / length);
}

/** @throws AppError MODEL_UNSUITABLE naming what is wrong with the embeddings of different faces */
export function requireDifferences(base: BaseModel, embeddings: Float32Array, width: number): void {
  const refuse = (what: string) =>
    new AppError('MODEL_UNSUITABLE', `The base model "${base.id}" ${what}.`, { action: adviceFor(base) });
  if (!embeddings.every(Number.isFinite)) throw refuse('gives embeddings that are no finite numbers');
  if (embeddings.every((value) => value === 0)) throw refuse('gives nothing but zeros for every face');
  const spread = embeddingSpread(embeddings, width);
  if (spread >= (isNormalisedTwice(base) ? leastSpreadInDoubt : leastSpread)) return;
  const share = `${Number((100 * spread).toPrecision(1))} %`;
  throw refuse(`gives nearly the same embedding for every face: they differ by ${share} of their length`);
}

function isNormalisedTwice({ preprocessing }: BaseModel): boolean {
  return preprocessing?.source === 'given' && preprocessing.inside !== null;
}

function adviceFor({ preprocessing }: BaseModel): string {
  const output = 'Otherwise another value may be the embedding (--output).';
  if (preprocessing === undefined) {
    return 'Check mean and standard deviation (--mean, --std), and that the weights are those of a trained network.';
  }
  if (preprocessing.inside !== null && preprocessing.source === 'given') {
    return `The file normalises its pixels itself: import it without saying how (without --mean, --std and --range). ${output}`;
  }
  if (preprocessing.source === 'given') {
    return `Check mean, standard deviation and range (--mean, --std, --range) against the description of the model. ${output}`;
  }
  return `Say how the file takes its pixels (--range, or --mean and --std). ${output}`;
}
