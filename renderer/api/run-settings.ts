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

export const initialRunSettings: RunSettings = {
  strategy: 'sa-fedlora',
  classes: [],
  rounds: 10,
  initiatingRounds: 2,
  heatingRounds: 1,
  coolingRounds: 1,
  shape: 'cubic',
  rMax: 16,
  rMin: 2,
};
