/** The settings of a run that the screens offer; the coordinator's defaults fill in the rest. */
import type { RunDetail } from '../../core/api/contract.ts';
import type { RunConfig } from '../../core/config/run-config.ts';

const offered = [
  ...(['strategy', 'classes', 'rounds', 'initiatingRounds', 'initiatingMode', 'lastK'] as const),
  ...(['heatingRounds', 'coolingRounds', 'shape', 'rMax', 'rMin'] as const),
  ...(['allocation', 'cutOff', 'freezeA'] as const),
  ...(['weighting', 'participation', 'localHead', 'serverOptimiser', 'wire', 'privacy', 'robust'] as const),
];

export interface RunSettings extends Pick<RunConfig, (typeof offered)[number]> {
  /** Two thirds of the sites that take part, when absent. */
  quorum?: number | undefined;
}

/** As in the coordinator's defaults (core/strategy/defaults.ts). */
export const initialRunSettings: RunSettings = {
  strategy: 'sa-fedlora',
  classes: [],
  rounds: 10,
  initiatingRounds: 2,
  initiatingMode: 'lora',
  lastK: 2,
  heatingRounds: 0,
  coolingRounds: 1,
  shape: 'cubic',
  rMax: 16,
  rMin: 2,
  allocation: 'uniform',
  cutOff: 'drop',
  freezeA: false,
  weighting: 'examples',
  participation: 1,
  localHead: false,
  serverOptimiser: { kind: 'none' },
  wire: { up: 'fp32', down: 'fp32', errorFeedback: false },
  privacy: null,
  robust: { rule: 'mean' },
};

/** What the next plan starts with: the settings of the run before, as far as the screens offer them. */
export function settingsOfRun({ config }: RunDetail): RunSettings {
  const kept = Object.fromEntries(offered.map((name) => [name, config[name]]));
  return { ...initialRunSettings, ...(kept as Partial<RunSettings>), classes: [...config.classes] };
}

/** Fewer rounds shorten the fixed stages as far as needed, cooling first. */
export function fitRounds(settings: RunSettings, rounds: number): Partial<RunSettings> {
  const initiatingRounds = Math.min(settings.initiatingRounds, rounds);
  const heatingRounds = Math.min(settings.heatingRounds, rounds - initiatingRounds);
  const coolingRounds = Math.min(settings.coolingRounds, rounds - initiatingRounds - heatingRounds);
  return { rounds, initiatingRounds, heatingRounds, coolingRounds };
}

/** Whether a method has the stages of the schedule; whether it has factors whose rank can be chosen. */
export const isAnnealed = ({ strategy }: RunSettings): boolean => strategy === 'sa-fedlora';
export const hasRank = ({ strategy }: RunSettings): boolean =>
  !['fedavg-full', 'fedprox-full', 'head-only'].includes(strategy);
