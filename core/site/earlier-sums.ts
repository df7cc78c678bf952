/** The cohorts of which this site has announced class sums, as far as its store can still say. */
import { runConfigSchema } from '../config/run-config.ts';
import type { ContributionRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { isPrototypeRound } from '../strategy/prototype-start.ts';
import { getStrategy } from '../strategy/registry.ts';
import type { EarlierCohort, ImagesByLabel } from './class-sums.ts';

/** In the order in which they were announced. Of another base model no sum can be compared with this one's. */
export function earlierSums(store: ReadOnlyStore, baseSha256: string): EarlierCohort[] {
  return store.withdrawalNotices.contributions().flatMap((made) => {
    const config = runConfigSchema.safeParse(store.runs.get(made.runId)?.config).data;
    // Of a run that this version cannot read nobody knows what left.
    if (config === undefined) return made.round === 0 ? [unknown] : [];
    if (config.baseSha256 !== baseSha256) return [];
    const plan = getStrategy(config.strategy).configureTrain(config, made.round);
    return isPrototypeRound(plan) ? [cohortOf(store, made, config)] : [];
  });
}

const unknown: EarlierCohort = { images: null, isWhole: false, smallCell: 1 };

function cohortOf(
  store: ReadOnlyStore,
  { runId, round, cohortSha256 }: ContributionRecord,
  { classes, smallCell }: { classes: readonly string[]; smallCell: number },
): EarlierCohort {
  const cohort = store.cohorts
    .byRun(runId)
    .find((each) => each.round === round && each.sha256 === cohortSha256);
  if (cohort === undefined) return unknown;
  const members = store.cohorts.members(cohort.id);
  // What was corrected since had another label then.
  const corrected = new Map(
    store.imageCorrections
      .sinceFrozen(cohort.id)
      .reverse()
      .map(({ imageId, label }) => [imageId, label]),
  );
  const images = new Map<string, Map<number, number>>();
  let isWhole = members.length === cohort.size;
  for (const { imageId, subjectId } of members) {
    const label = corrected.get(imageId) ?? store.images.get(imageId)?.label;
    // An image that is gone was in some sum.
    if (label === undefined) isWhole = false;
    if (label === undefined || !classes.includes(label)) continue;
    images.set(label, (images.get(label) ?? new Map()).set(imageId, subjectId));
  }
  return { images, isWhole, smallCell };
}

/** By label: the same form for images of a cohort that was frozen now. */
export function imagesByLabel(
  images: readonly { id: number; subjectId: number; label: string }[],
): ImagesByLabel {
  const byLabel = Map.groupBy(images, ({ label }) => label);
  return new Map(
    [...byLabel].map(([label, own]) => [label, new Map(own.map(({ id, subjectId }) => [id, subjectId]))]),
  );
}
