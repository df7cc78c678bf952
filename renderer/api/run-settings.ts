/** The settings of a run that the screens offer; the coordinator's defaults fill in the rest. */
import type { ScheduleShape, StrategyName } from '../../core/strategy/strategy.ts';

export interface RunSettings {
  strategy: StrategyName;
  classes: string[];
  rounds: number;
  initiatingRounds: number;
  heatingRounds: number;
  coolingRounds: number;
  shape: ScheduleShape;
  rMax: number;
  rMin: number;
}

/** As in the coordinator's defaults (core/strategy/defaults.ts). */
export const initialRunSettings: RunSettings = {
  strategy: 'sa-fedlora',
  classes: [],
  rounds: 10,
  initiatingRounds: 2,
  heatingRounds: 0,
  coolingRounds: 1,
  shape: 'cubic',
  rMax: 16,
  rMin: 2,
};

/** Fewer rounds shorten the fixed stages as far as needed, cooling first. */
export function fitRounds(settings: RunSettings, rounds: number): Partial<RunSettings> {
  const initiatingRounds = Math.min(settings.initiatingRounds, rounds);
  const heatingRounds = Math.min(settings.heatingRounds, rounds - initiatingRounds);
  const coolingRounds = Math.min(settings.coolingRounds, rounds - initiatingRounds - heatingRounds);
  return { rounds, initiatingRounds, heatingRounds, coolingRounds };
}
