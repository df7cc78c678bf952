/**
 * What a run will send, from shapes alone. Conventions (docs/method.md): every site fetches the global state
 * at the start of each round (down), those that train send an update (up), and all fetch the last state when the
 * run ends.
 */
import type { RunConfig } from '../config/run-config.ts';
import type { BaseModel } from '../models/base-model.ts';
import { participantsOf } from './participation.ts';
import { createStateShapes, frozenBaseAfter, type TransferSize } from './plan-shapes.ts';
import { getStrategy, yardsticks } from './registry.ts';
import type { RoundPlan, Strategy } from './strategy.ts';

/** A round as planned, before it runs. Bytes are those of the state files, without the transport's envelopes. */
export interface PlannedRound extends RoundPlan {
  /** Sites that train and send an update. All sites fetch the global state: those that do not train evaluate it. */
  participants: number;
  /** Values that a site without a rank of its own trains. */
  trainableParameters: number;
  /** Values in the update of such a site. */
  parametersPerSite: number;
  /** Size of that update: what leaves the site. */
  bytesPerSite: number;
  /** Values that a site fetches: the global state, and what became part of the base model since the last round. */
  parametersDownPerSite: number;
  /** Size of what a site fetches. */
  bytesDownPerSite: number;
}

/** The baselines are counted with the same rounds, sites and options (wire, participation, local head). */
export interface RunTotals {
  /** Values sent by all sites and to all sites over the whole run. */
  parametersSent: number;
  bytesSent: number;
  /** The same counts for `fedavg-full`. */
  fedavgFullParameters: number;
  fedavgFullBytes: number;
  /** The same counts for `fedavg-lora`: the fixed rank r_max. */
  fixedRankParameters: number;
  fixedRankBytes: number;
}

export interface PlannedRun {
  plan: PlannedRound[];
  totals: RunTotals;
}

/**
 * Plan and totals of a run with `sites` sites that are all there in every round.
 *
 * Exact to the byte, but for two things that only the run decides: with the allocation `spectral` every layer is
 * counted with the round's rank; and where sites have ranks of their own but not all take part in a round, the sum
 * is the expected one.
 * @throws AppError CONFIG_INVALID for an unknown preset of modules
 */
export function planRun(config: RunConfig, base: BaseModel, sites: number): PlannedRun {
  const own = countRun(config, base, sites);
  // Ranks by site belong to strategies that know what to do with them.
  const sentBy = ({ name }: Strategy) =>
    countRun({ ...config, strategy: name, siteRanks: {} }, base, sites).sent;
  const full = sentBy(yardsticks.wholeModel);
  const fixed = sentBy(yardsticks.fixedRank);
  return {
    plan: own.plan,
    totals: {
      parametersSent: own.sent.parameters,
      bytesSent: own.sent.bytes,
      fedavgFullParameters: full.parameters,
      fedavgFullBytes: full.bytes,
      fixedRankParameters: fixed.parameters,
      fixedRankBytes: fixed.bytes,
    },
  };
}

/** Values and bytes that a run sends in all; counted as in {@link planRun}. @throws AppError CONFIG_INVALID */
export function countSent(config: RunConfig, base: BaseModel, sites: number): TransferSize {
  return countRun(config, base, sites).sent;
}

function countRun(
  config: RunConfig,
  base: BaseModel,
  sites: number,
): { plan: PlannedRound[]; sent: TransferSize } {
  const strategy = getStrategy(config.strategy);
  const shapes = createStateShapes(config, base);
  const siteRanks = ranksBySite(config, sites);
  const ids = Array.from({ length: sites }, (_, index) => String(index).padStart(6, '0'));
  const plan: PlannedRound[] = [];
  let sent: TransferSize = { parameters: 0, bytes: 0 };
  const send = (size: TransferSize, times: number) => {
    sent = plus(sent, { parameters: times * size.parameters, bytes: times * size.bytes });
  };
  /** Base weights that averaging has replaced so far, as far as they are not part of the base model yet. */
  let replaced: readonly string[] = [];
  let arrived: TransferSize = { parameters: 0, bytes: 0 };
  for (let round = 0; round < config.rounds; round++) {
    const roundPlan = strategy.configureTrain(config, round);
    const participants = participantsOf(config, round, ids).length;
    const trained = shapes.trainedWeights(roundPlan);
    const down = plus(shapes.globalState(roundPlan, replaced), arrived);
    const up = shapes.update(roundPlan, trained, roundPlan.rank);
    plan.push({
      ...roundPlan,
      participants,
      trainableParameters: shapes.trainable(roundPlan, trained),
      parametersPerSite: up.parameters,
      bytesPerSite: up.bytes,
      parametersDownPerSite: down.parameters,
      bytesDownPerSite: down.bytes,
    });
    send(down, sites);
    for (const own of siteRanks)
      send(shapes.update(roundPlan, trained, Math.min(own, roundPlan.rank)), participants / sites);
    const next = strategy.configureTrain(config, Math.min(round + 1, config.rounds - 1));
    const after = frozenBaseAfter(config, {
      plan: roundPlan,
      next,
      replaced: trained.length > 0 ? trained : replaced,
      participants,
      siteRanks,
    });
    replaced = after.replaced;
    arrived = after.part === null ? { parameters: 0, bytes: 0 } : shapes.frozenBaseDelta(after.part);
  }
  const last = plan.at(-1);
  if (last !== undefined) send(plus(shapes.globalState(last, replaced), arrived), sites);
  return {
    plan,
    sent: { parameters: Math.round(sent.parameters), bytes: Math.round(sent.bytes) },
  };
}

const plus = (x: TransferSize, y: TransferSize): TransferSize => ({
  parameters: x.parameters + y.parameters,
  bytes: x.bytes + y.bytes,
});

/** The highest rank of each site; infinite where it takes the round's. */
function ranksBySite({ siteRanks }: RunConfig, sites: number): number[] {
  const own = Object.values(siteRanks).slice(0, sites);
  return [...own, ...Array.from({ length: sites - own.length }, () => Number.POSITIVE_INFINITY)];
}
