/** What leaves a site in a run, what stays, and what protects it, in sentences for the person who approves it. */
import { preparingRounds, type RunConfig } from '../config/run-config.ts';
import { plural } from '../shared/text.ts';
import type { Contract } from './contract.ts';

export interface WhatLeaves {
  leaves: string[];
  stays: string[];
  /** What protects it, and what does not. */
  protection: string[];
}

/** What of a site's model leaves it in some round of a run. */
interface Leaving {
  /** Weights of the base model: of the whole network or of its last blocks. */
  weights: 'none' | 'last-k' | 'full';
  a: boolean;
  b: boolean;
  head: boolean;
  layers: number;
  /** Base weights that leave. */
  weightCount: number;
}

function leavingOf({ settings, leaves }: Contract): Leaving {
  const count = (pattern: RegExp) => leaves.tensors.filter(({ name }) => pattern.test(name)).length;
  const [a, b, base] = [count(/\.lora_A\.weight$/), count(/\.lora_B\.weight$/), count(/^base\./)];
  const modes = new Set(leaves.rounds.map(({ mode }) => mode));
  return {
    weights: modes.has('full') ? 'full' : modes.has('last-k') ? 'last-k' : 'none',
    ...{ a: a > 0, b: b > 0, head: !settings.localHead },
    layers: Math.max(a, b),
    weightCount: base,
  };
}

const precisionWords = {
  fp32: 'as 32-bit numbers',
  fp16: 'rounded to 16 bits',
  int8: 'rounded to 8 bits',
} as const;

/** @param siteName a run may give single sites a rank of their own */
export function whatLeaves(contract: Contract, siteName: string): WhatLeaves {
  const config = contract.settings;
  const leaving = leavingOf(contract);
  const loss =
    config.privacy?.at === 'site' ? ' (without noise)' : ', and the mean training loss to three digits';
  return {
    leaves: [
      ...modelSentences(config, leaving, siteName),
      ...prototypeSentences(config),
      `The number of images trained on, rounded to a multiple of ${config.smallCell}${loss}`,
      `For each round, about how many held-out images were recognised: with noise, and rounded to a multiple of ${config.smallCell}; once, at the end, the exact counts by class, confidence and score, none below ${config.smallCell}`,
      ...gallerySentences(config),
      'The name of this site, when it is connected, and its policy',
    ],
    stays: [
      'Photographs and the crops made from them',
      'Names, pseudonyms, file names and consent records',
      'The prediction for any single image',
      ...ownSentences(leaving),
    ],
    protection: [
      ...privacySentences(config),
      ...mixtureSentences(contract),
      ...contributorSentences(contract),
    ],
  };
}

function modelSentences(config: RunConfig, leaving: Leaving, siteName: string): string[] {
  const head = leaving.head ? ' and the classification head' : '';
  const how = `after training on your images, ${precisionWords[config.wire.up]}`;
  const sentences: string[] = [];
  if (leaving.weights === 'full') sentences.push(`All weights of the network${head}, ${how}`);
  if (leaving.weights === 'last-k')
    sentences.push(`${plural(leaving.weightCount, 'weight')} of the network's last blocks${head}, ${how}`);
  const what = factorWords(leaving);
  if (what !== null) {
    const when = leaving.weights === 'none' ? '' : 'In later rounds: ';
    sentences.push(`${when}${what} of ${plural(leaving.layers, 'layer')}${head}, ${how}`);
  }
  if (sentences.length === 0 && leaving.head) sentences.push(`The classification head, ${how}`);
  if (what !== null && Object.hasOwn(config.siteRanks, siteName)) {
    sentences.push(`For this site, factors of rank ${config.siteRanks[siteName]} at most`);
  }
  return sentences;
}

/** What the head's start is made of, exactly: docs/method.md. */
function prototypeSentences(config: RunConfig): string[] {
  if (preparingRounds(config) === 0) return [];
  const { smallCell: k, wire } = config;
  const least = k === 1 ? 'each class here' : `each class with at least ${plural(k, 'subject')} here`;
  const fewest =
    k === 1
      ? "Of a class with a single subject that is this person's mean face template"
      : `Of a class with exactly ${k} that is the mean of ${k} face templates. Classes with fewer are left out`;
  return [
    `In the first round, before anything trains: for ${least}, the sum of its subjects' mean face templates, divided by the number of images, ${precisionWords[wire.up]}. ${fewest}`,
  ];
}

function gallerySentences({ gallery = 'off', smallCell }: RunConfig): string[] {
  if (gallery === 'off') return [];
  const when = gallery === 'ends' ? 'Before training' : 'For each round';
  return [
    `${when}, about how many held-out images have an image of their class as the nearest among your training images (with noise, in multiples of ${smallCell}); at the end, exact counts of those among the nearest 1, 5, 10 and 30 classes, none below ${smallCell}. Of classes that this run does not train, the same over all of them together, without their names`,
  ];
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

/** What a head's update tells exactly, and what makes it tell less. */
function mixtureSentences({ settings }: Contract): string[] {
  if (settings.localHead) return [];
  const { batchSize } = settings.training;
  const templates =
    batchSize === 1
      ? 'the face template of a single image'
      : `a mixture of the face templates that trained, ${batchSize} in each step`;
  return [
    `From an update of the classifier the coordinator can work out ${templates}. One that prepares the model for it can single out the template of one image: only noise added at this site hides that`,
    'More subjects, noise and secure aggregation make an update tell less',
  ];
}

const ruleWords = {
  mean: 'All updates count: one hostile site could spoil the result',
  'norm-bound': 'Oversized updates of single sites are scaled down',
  median: 'Of each value, the median of all sites counts',
  'trimmed-mean': 'Of each value, the extremes do not count',
  'multi-krum': 'Updates far from the others do not count',
} as const;

function contributorSentences({ settings, minContributors }: Contract): string[] {
  const merged =
    minContributors === 1
      ? 'Other sites may get it as it is: the shared model of a round may be made from a single update'
      : `Other sites see only what is merged from the updates of at least ${minContributors} sites; the coordinator signs how many there were`;
  return [`The coordinator reads your update by itself. ${merged}`, ruleWords[settings.robust.rule]];
}

function ownSentences({ a, b, head }: Leaving): string[] {
  const own: string[] = [];
  const hasFactors = a || b;
  if (!head) own.push('The classification head: this site keeps its own');
  if (hasFactors && !b) own.push('The LoRA factors B: this site keeps its own');
  if (hasFactors && !a) own.push('The LoRA factors A, which do not train');
  return own;
}
