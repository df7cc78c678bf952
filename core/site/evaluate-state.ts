/** A site's evaluation of a global state on its held-out images: what is counted, and what of it is released. */
import { heldOutImages } from '../consent/cohort.ts';
import { suppressSmallCells } from '../evaluation/suppress-small-cells.ts';
import { getStrategy } from '../strategy/registry.ts';
import { type RoundWork, type RoundWorkerOptions, toExamples } from './round-work.ts';

/**
 * Evaluates a global state, with the site's local parameters in it, on held-out images and reports counts, once per state.
 * @param isLast the run is over but for this evaluation
 */
export async function evaluateState(
  options: RoundWorkerOptions,
  work: RoundWork,
  isLast: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { store, blobs, trainer, ports } = options;
  const { runId, siteId, config, baseId, round, state } = work;
  if (store.evaluations.ofState(runId, state.sha256).some((row) => row.siteId === siteId)) return;
  options.onActivity('evaluating', null);
  const { configureEvaluate } = getStrategy(config.strategy);
  const { batchSize, head, arcScale, smallCell } = configureEvaluate(config, round);
  const images = heldOutImages(store, { purpose: config.purpose, at: store.now(), labels: config.classes });
  const evaluate = async () => {
    const { stateFile, release } = await options.states.compose(work, isLast ? 'evaluate-last' : 'evaluate');
    const examples = toExamples(images, config, blobs);
    const job = { baseId, stateFile, examples, batchSize, head, arcScale, ...options.compute(baseId) };
    return trainer.evaluate(job, { signal }).finally(release);
  };
  const result = images.length === 0 ? { correct: 0, total: 0, counts: null } : await evaluate();
  // What would say something about single patients does not leave the site: of too few images nothing but that.
  const shown = result.counts && suppressSmallCells(result.counts, smallCell);
  store.transaction(() => {
    store.evaluations.upsert({
      runId,
      stateSha256: state.sha256,
      siteId,
      correct: result.correct,
      total: result.total,
      counts: result.counts,
    });
    ports.enqueue({
      type: 'evaluation',
      body: {
        runId,
        stateSha256: state.sha256,
        correct: shown?.correct ?? 0,
        total: shown?.total ?? 0,
        ...(shown && { counts: shown }),
      },
    });
  });
  ports.flush();
}
