/** What a site demands of a manifest before it works by it. */

import { runConfigSchema } from '../config/run-config.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { getStrategy } from '../strategy/registry.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import type { ManifestBody } from '../transport/messages.ts';

/** Cosines of two machines may differ in their last digit. */
const roundingShare = 1e-9;

/**
 * What a person approved are the settings of a run. So these must fit their hash, and a round's plan must be the one
 * that follows from them: a coordinator must not ask in a round for more than was approved.
 * @throws AppError CONFIG_INVALID
 */
export function checkManifest({ config, configSha256, round, plan }: ManifestBody): void {
  const parsed = runConfigSchema.safeParse(config);
  if (!parsed.success || hashJson(parsed.data) !== configSha256) {
    throw refused('The settings of a run do not match their hash; this site ignores the run.');
  }
  const { strategy, rounds } = parsed.data;
  if (round >= rounds || plan.round !== round) {
    throw refused(`The settings of the run have no round ${round + 1}; this site does not take part in it.`);
  }
  const due = getStrategy(strategy).configureTrain(parsed.data, round);
  const wrong = differenceOf(plan, due);
  if (wrong === null) return;
  throw refused(
    `What the coordinator asks for in round ${round + 1} does not follow from the settings of the run ("${wrong}" is ` +
      `${String(plan[wrong])} instead of ${String(due[wrong])}); this site does not take part in it.`,
  );
}

const refused = (message: string) =>
  new AppError('CONFIG_INVALID', message, {
    action: 'Ask the coordinator; both sides must run compatible versions of Anneal.',
  });

function differenceOf(plan: RoundPlan, due: RoundPlan): keyof RoundPlan | null {
  const exact = ['mode', 'rank', 'trains', 'sends'] as const;
  const wrong = exact.find((key) => plan[key] !== due[key]);
  if (wrong !== undefined) return wrong;
  const close = ['proximal', 'learningRateFactor'] as const;
  return close.find((key) => Math.abs(plan[key] - due[key]) > roundingShare * due[key]) ?? null;
}
