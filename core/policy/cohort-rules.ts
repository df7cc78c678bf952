/** What the site policy says about the very images that a round would train on. */
import type { RunConfig } from '../config/run-config.ts';
import type { SitePolicy } from '../config/site-policy.ts';
import { countSteps } from '../engine/batches.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import { isProtected } from './check-policy.ts';

interface CohortImage {
  label: string;
  subjectId: number;
}

export interface Admission<Image> {
  /** Those of classes with enough subjects. */
  images: Image[];
  /** Classes that do not train here, and how many subjects they have. */
  leftOut: { label: string; subjects: number }[];
  /** Why the site does not train at all; null when it does. */
  refusal: AppError | null;
}

const subjectsIn = (images: readonly CohortImage[]) => new Set(images.map(({ subjectId }) => subjectId)).size;

/**
 * @param images with an active consent to the purpose, of the run's classes
 * @param config of the run
 */
export function admit<Image extends CohortImage>(
  images: readonly Image[],
  config: RunConfig,
  policy: SitePolicy,
): Admission<Image> {
  const least = isProtected(config, policy)
    ? Math.min(policy.minProtectedSubjectsPerClass, policy.minSubjectsPerClass)
    : policy.minSubjectsPerClass;
  const classes = [...Map.groupBy(images, ({ label }) => label)];
  const leftOut = classes
    .map(([label, own]) => ({ label, subjects: subjectsIn(own) }))
    .filter(({ subjects }) => subjects < least);
  const names = new Set(leftOut.map(({ label }) => label));
  const admitted = images.filter(({ label }) => !names.has(label));
  return {
    images: admitted,
    leftOut,
    refusal: refusalOf(admitted, images.length, { config, policy, least }),
  };
}

function refusalOf(
  images: readonly CohortImage[],
  before: number,
  { config, policy, least }: { config: RunConfig; policy: SitePolicy; least: number },
): AppError | null {
  if (before === 0)
    return new AppError(
      'NOT_ENOUGH_DATA',
      'No image with an active consent matches the classes of this run.',
    );
  if (images.length === 0)
    return refused(
      `asks for at least ${plural(least, 'subject')} in each class that trains; no class of this run has so many here`,
    );
  const subjects = subjectsIn(images);
  if (subjects < policy.minSubjects)
    return refused(
      `asks for at least ${plural(policy.minSubjects, 'subject')} in a round; this run finds ${subjects} here`,
    );
  const { epochs, batchSize } = config.training;
  const steps = countSteps({ examples: images.length, epochs, batchSize });
  if (steps < policy.minSteps)
    return refused(
      `asks for at least ${plural(policy.minSteps, 'step')} per round; this run takes ${steps} with the ${plural(images.length, 'image')} here`,
    );
  return null;
}

const refused = (what: string) =>
  new AppError('POLICY_REFUSED', `The policy of this site ${what}.`, {
    action:
      'Import more consented images, ask the coordinator for more epochs or smaller steps, or change the policy.',
  });
