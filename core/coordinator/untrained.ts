/** The gallery's figures of the state that a run started from, as the sites told them before anything was trained. */
import type { RunConfig } from '../config/run-config.ts';
import type { GalleryMetrics } from '../evaluation/merge-galleries.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { getStrategy } from '../strategy/registry.ts';

/** Null where the run asks for no gallery, no site has answered yet, or none may. */
export function untrainedGallery(
  store: ReadOnlyStore,
  runId: string,
  config: RunConfig,
): GalleryMetrics | null {
  const start = store.rounds.get(runId, 0)?.startSha256;
  if (start === undefined || (config.gallery ?? 'off') === 'off') return null;
  const reports = store.evaluations.ofState(runId, start);
  return getStrategy(config.strategy).aggregateEvaluate(config, reports).gallery;
}
