/** The weights of a base model with a run's frozen base delta in them, kept from round to round. */
import type { RunConfig } from '../config/run-config.ts';
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { addFrozenBasePart, type MergedWeights } from '../strategy/frozen-base-delta.ts';
import { decodeFrozenBase } from '../strategy/wire/wire.ts';
import type { BlobReference } from '../transport/messages.ts';

export interface FrozenBaseMerge {
  /**
   * A part that is added costs its own products only, and who asks for the same parts gets the same weights: they are
   * not to be written to. Several sites of one run in one process may share a merge, as in the simulation.
   * @param blobs hold the parts
   * @throws AppError MODEL_FILE_INVALID | SHAPE_MISMATCH | BLOB_CORRUPT
   */
  merge(
    source: { readonly config: RunConfig; readonly frozenBaseDelta: readonly BlobReference[] },
    base: BaseModel,
    initial: ModelState,
    blobs: Pick<BlobStore, 'read'>,
  ): Promise<MergedWeights>;
}

export function createFrozenBaseMerge(): FrozenBaseMerge {
  let known: { baseSha256: string; parts: readonly string[]; merged: Promise<MergedWeights> } | null = null;

  return {
    async merge({ config, frozenBaseDelta }, base, initial, blobs) {
      const parts = frozenBaseDelta.map(({ sha256 }) => sha256);
      if (parts.length === 0) {
        known = null;
        return new Map();
      }
      const grows =
        known !== null &&
        known.baseSha256 === base.sha256 &&
        known.parts.length <= parts.length &&
        known.parts.every((sha256, index) => sha256 === parts[index]);
      const below = grows ? known! : { parts: [], merged: Promise.resolve<MergedWeights>(new Map()) };
      const added = parts.slice(below.parts.length);
      if (added.length === 0) return below.merged;
      const own = { baseSha256: base.sha256, parts, merged: addParts(added) };
      known = own;
      try {
        return await own.merged;
      } catch (error) {
        // Who asks next shall read the part again, not hear of an old failure.
        if (known === own) known = null;
        throw error;
      }

      async function addParts(names: readonly string[]): Promise<MergedWeights> {
        let merged = await below.merged;
        for (const sha256 of names) {
          const file = await blobs.read(sha256);
          const part = decodeFrozenBase(file, 'the frozen base delta', { config, base, initial });
          merged = addFrozenBasePart(base, merged, part);
        }
        return merged;
      }
    },
  };
}
