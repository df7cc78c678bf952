/** What leaves a site in a run and what stays, in sentences for the person who approves it. */
import type { RunConfig } from '../config/run-config.ts';
import type { BaseModel } from '../models/base-model.ts';
import { resolveTargetModules } from '../models/target-modules.ts';
import { trainableWeights } from '../models/trainable-weights.ts';
import { plural } from '../shared/text.ts';
import { type Leaving, leavingOf } from './approval.ts';

export interface WhatLeaves {
  /** Tensors of an update, at most. */
  tensors: number;
  leaves: string[];
  stays: string[];
}

const precisionWords = {
  fp32: 'as 32-bit numbers',
  fp16: 'rounded to 16 bits',
  int8: 'rounded to 8 bits',
} as const;

/** @param siteName a run may give single sites a rank of their own */
export function whatLeaves(config: RunConfig, base: BaseModel, siteName: string): WhatLeaves {
  const leaving = leavingOf(config);
  const layers = resolveTargetModules(base, config.targetModules, config.excludeModules).length;
  const weights = trainableWeights(base, leaving.weights === 'none' ? 'lora' : leaving.weights, config.lastK);
  const head = leaving.head ? 2 : 0;
  const factors = layers * (Number(leaving.a) + Number(leaving.b));
  return {
    tensors: Math.max(weights.length, factors) + head,
    leaves: [
      ...modelSentences(config, leaving, { layers, weights: weights.length }, siteName),
      ...privacySentences(config),
      `The number of images trained on, and the mean training loss${config.privacy?.at === 'site' ? ' (without noise)' : ''}`,
      `Counts of held-out images: how many were recognised, by class, confidence and score; no count below ${config.smallCell}`,
      'The name of this site and when it is connected',
    ],
    stays: [
      'Photographs and the crops made from them',
      'Names, pseudonyms, file names and consent records',
      'The prediction for any individual image',
      ...ownSentences(leaving, factors > 0),
    ],
  };
}

function modelSentences(
  config: RunConfig,
  leaving: Leaving,
  counts: { layers: number; weights: number },
  siteName: string,
): string[] {
  const head = leaving.head ? ' and the classification head' : '';
  const how = `after training on your images, ${precisionWords[config.wire.up]}`;
  const sentences: string[] = [];
  if (leaving.weights === 'full') sentences.push(`All weights of the network${head}, ${how}`);
  if (leaving.weights === 'last-k')
    sentences.push(`${plural(counts.weights, 'weight')} of the network's last blocks${head}, ${how}`);
  const what = factorWords(leaving);
  if (what !== null) {
    const when = leaving.weights === 'none' ? '' : 'In later rounds: ';
    sentences.push(`${when}${what} of ${plural(counts.layers, 'layer')}${head}, ${how}`);
  }
  if (sentences.length === 0 && leaving.head) sentences.push(`The classification head, ${how}`);
  if (what !== null && Object.hasOwn(config.siteRanks, siteName)) {
    sentences.push(`For this site, factors of rank ${config.siteRanks[siteName]} at most`);
  }
  return sentences;
}

function factorWords({ a, b }: Leaving): string | null {
  if (a && b) return 'LoRA factors';
  if (a) return 'LoRA factors A';
  return b ? 'LoRA factors B' : null;
}

function privacySentences({ privacy }: RunConfig): string[] {
  if (privacy === null) return ['No noise is added: trained numbers can reveal something about the images'];
  const { clipNorm, noiseMultiplier, at } = privacy;
  const clip = `clipped to a norm of ${clipNorm}`;
  if (noiseMultiplier === 0) return [`The change that training makes is ${clip}; no noise is added`];
  const noise = `noise of ${noiseMultiplier} times that norm`;
  return at === 'site'
    ? [`The change that training makes is ${clip}, and ${noise} is added before it leaves this site`]
    : [
        `The coordinator receives your change without noise; it takes the mean of all changes, each ${clip}, and adds ${noise}`,
      ];
}

function ownSentences({ a, b, head }: Leaving, hasFactors: boolean): string[] {
  const own: string[] = [];
  if (!head) own.push('The classification head: this site keeps its own');
  if (hasFactors && !b) own.push('The LoRA factors B: this site keeps its own');
  if (hasFactors && !a) own.push('The LoRA factors A, which do not train');
  return own;
}
