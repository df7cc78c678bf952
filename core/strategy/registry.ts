/** All strategies by name. */

import { AppError } from '../shared/errors.ts';
import { fedAvgFull } from './fedavg-full.ts';
import { fedAvgLora } from './fedavg-lora.ts';
import { headOnly } from './head-only.ts';
import { saFedLora } from './sa-fedlora.ts';
import type { Strategy, StrategyName } from './strategy.ts';

export const strategies: Readonly<Partial<Record<StrategyName, Strategy>>> = {
  'sa-fedlora': saFedLora,
  'fedavg-lora': fedAvgLora,
  'fedavg-full': fedAvgFull,
  'head-only': headOnly,
};

export function getStrategy(name: StrategyName): Strategy {
  const strategy = strategies[name];
  if (strategy !== undefined) return strategy;
  throw new AppError('CONFIG_INVALID', `The strategy "${name}" is not there yet.`);
}
