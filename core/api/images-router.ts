/** What was measured of the images here, and the pairs that a person should look at. */
import { duplicatesIn } from '../data/duplicates.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import type { ImagesView } from './contract.ts';
import { router, viewing } from './trpc.ts';

export function imagesView(store: ReadOnlyStore): ImagesView {
  const quality = store.images
    .list()
    .flatMap(({ id, sourceName, pseudonym, status, split, quality: figures }) =>
      figures === null ? [] : [{ id, sourceName, pseudonym, status, split, quality: figures }],
    );
  return { quality, duplicates: duplicatesIn(store) };
}

export const imagesRouter = router({
  /** Of all images with figures: those imported before version 8 of the store have none. */
  quality: viewing.query(({ ctx }) => imagesView(ctx.agent.store)),
});
