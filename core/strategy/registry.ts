/** All strategies by name. */
import type { StrategyName } from '../config/setting.ts';
import { fedAvgFull } from './fedavg-full.ts';
import { fedAvgLora } from './fedavg-lora.ts';
import { fedProxFull } from './fedprox-full.ts';
import { fedSaLora } from './fedsa-lora.ts';
import { ffaLora } from './ffa-lora.ts';
import { flexLora } from './flexlora.ts';
import { floraStack } from './flora-stack.ts';
import { headOnly } from './head-only.ts';
import { hetLora } from './hetlora.ts';
import { startingFromPrototypes } from './prototype-start.ts';
import { saFedLora } from './sa-fedlora.ts';
import type { Strategy } from './strategy.ts';

const own: Readonly<Record<StrategyName, Strategy>> = {
  'sa-fedlora': saFedLora,
  flexlora: flexLora,
  hetlora: hetLora,
  'flora-stack': floraStack,
  'fedavg-lora': fedAvgLora,
  'ffa-lora': ffaLora,
  'fedsa-lora': fedSaLora,
  'fedavg-full': fedAvgFull,
  'fedprox-full': fedProxFull,
  'head-only': headOnly,
};

/** Each with a round before its own where a run starts from prototypes. */
export const strategies = Object.fromEntries(
  Object.entries(own).map(([name, strategy]) => [name, startingFromPrototypes(strategy)]),
) as Readonly<Record<StrategyName, Strategy>>;

/** What a run is compared with: all weights averaged, and LoRA at a fixed rank. */
export const yardsticks = {
  wholeModel: strategies[fedAvgFull.name],
  fixedRank: strategies[fedAvgLora.name],
} as const;

export function getStrategy(name: StrategyName): Strategy {
  return strategies[name];
}
