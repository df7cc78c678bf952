/** Photographs that an earlier Anneal imported: it kept the square that one alignment shows, and no more. */
import { type Alignment, originalAlignment } from '../config/alignment.ts';
import { servesAlignment } from '../consent/cohort.ts';
import { type Contract, contractSchema } from '../policy/contract.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { ImageRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';

export const alignmentOf = ({ baseModel }: Pick<Contract, 'baseModel'>): Alignment =>
  baseModel.alignment ?? originalAlignment;

/** Of a run's base model, as its contract says; the original one where there is no contract. */
export function alignmentOfRun(store: ReadOnlyStore, runId: string): Alignment {
  const contract = contractSchema.safeParse(store.contracts.get(runId)?.document).data;
  return contract === undefined ? originalAlignment : alignmentOf(contract);
}

/**
 * What a person should know of images that a base model cannot use; null when it can use all of them.
 * @param images whatever their kind
 */
export function describeOlderCrops(images: readonly ImageRecord[], alignment: Alignment): string | null {
  const older = images.filter(({ cropKind }) => !servesAlignment(cropKind, alignment)).length;
  if (older === 0) return null;
  const [were, them] = older === 1 ? ['was', 'it'] : ['were', 'them'];
  return `${plural(older, 'photograph')} ${were} imported by an earlier version of Anneal, which kept less of a face than this base model takes. Import ${them} again, and ${them === 'it' ? 'it' : 'they'} can be used.`;
}

/** @returns why nothing is there to train on, when all that there is was imported by an earlier version; else null */
export function onlyOlderCrops(images: readonly ImageRecord[], alignment: Alignment): AppError | null {
  if (images.some(({ cropKind }) => servesAlignment(cropKind, alignment))) return null;
  const words = describeOlderCrops(images, alignment);
  return words === null
    ? null
    : new AppError('NOT_ENOUGH_DATA', words.slice(0, words.indexOf('. ') + 1), {
        action: 'Import the same photographs again with the same table; nothing else has to be done.',
      });
}
