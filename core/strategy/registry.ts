/** All strategies by name. */
import { fedAvgFull } from './fedavg-full.ts';
import { fedAvgLora } from './fedavg-lora.ts';
import { headOnly } from './head-only.ts';
import { saFedLora } from './sa-fedlora.ts';
import type { Strategy, StrategyName } from './strategy.ts';

export const strategies: Readonly<Record<StrategyName, Strategy>> = {
  'sa-fedlora': saFedLora,
  'fedavg-lora': fedAvgLora,
  'fedavg-full': fedAvgFull,
  'head-only': headOnly,
};

export function getStrategy(name: StrategyName): Strategy {
  return strategies[name];
}
