/** What of a model trains in a round, what of that travels, and what stays: local parameters = trained − sent. */
import type { RunConfig } from '../config/run-config.ts';
import { factorParts, type ModelState, type Parts, partsWithout, tensorsOf } from '../lora/model-state.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import type { RoundPlan } from './strategy.ts';

/** What says which parts of a state travel in a round. */
export interface Travels {
  plan: Pick<RoundPlan, 'sends'>;
  config: Pick<RunConfig, 'localHead'>;
}

/** Base weights of a round without any are an empty part of a state. */
export const trainedParts = ({ trains }: Pick<RoundPlan, 'trains'>): Parts => ({
  ...factorParts(trains),
  ...{ head: true, base: true },
});

/** In both directions. */
export const sentParts = ({ plan, config }: Travels): Parts => ({
  ...factorParts(plan.sends),
  ...{ head: !config.localHead, base: true },
});

/** What a site keeps to itself from round to round. */
export const localParts = (
  config: Pick<RunConfig, 'localHead'>,
  plan: Pick<RoundPlan, 'trains' | 'sends'>,
): Parts => partsWithout(trainedParts(plan), sentParts({ config, plan }));

/** Whether a site keeps any part of what trains to itself. */
export const keepsParts = (...round: Parameters<typeof localParts>): boolean =>
  Object.values(localParts(...round)).includes(true);

/** What options compute value by value (clipping, noise, medians, momentum): the tensors that travel, by name. */
export const sentTensors = (state: ModelState, travels: Travels): Map<string, FloatTensor> =>
  tensorsOf(state, sentParts(travels));
