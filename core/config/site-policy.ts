/**
 * The rules of one site, which no coordinator can override. Kept at the site in versions; the coordinator only gets to
 * know them, so that it does not ask in vain. Enforced by core/policy and core/site.
 */

import { z } from 'zod';
import { defaultPurpose } from './consent-defaults.ts';
import { choice, grouped, type Setting, setting, settingsOf } from './setting.ts';

const least = (preset: number, most = 1_000_000) => z.int().min(1).max(most).default(preset);
const clock = '([01]\\d|2[0-3]):[0-5]\\d';

const dataShape = grouped('Who is behind what leaves', {
  minSubjects: setting(
    'Subjects in a round. Fewer subjects than this with an active consent, and this site does not train.',
    least(5),
  ),
  minSubjectsPerClass: setting(
    'Subjects in each class. A class with fewer subjects here does not train: a rare class would give away who is in it.',
    least(3),
  ),
  minProtectedSubjectsPerClass: setting(
    'Subjects in each class, protected. The same where noise at this site or secure aggregation protects the update: rare diseases have few patients.',
    least(1),
  ),
  minContributors: setting(
    'Contributing sites. A shared model made by fewer sites is neither trained further nor evaluated here: with one or two, the others could subtract themselves.',
    least(3, 10_000),
  ),
  minSmallCell: setting(
    'Smallest count. A run may not ask for smaller counts of images than this.',
    least(5),
  ),
});

const trainingShape = grouped('How it trains', {
  minSteps: setting(
    'Steps per round. Fewer optimiser steps would give the images of a single step away.',
    least(8),
  ),
  minBatchSize: setting(
    'Images per step. With one image in a step, the update of the classifier is the template of that face.',
    least(4, 100_000),
  ),
  requireClipping: setting(
    'Clip gradients. Without clipping, one unusual image can dominate an update.',
    z.boolean().default(true),
  ),
  maxRounds: setting(
    'Rounds of a run. A run may not ask for more: each round, and each evaluation, tells a little more.',
    least(100, 1000),
  ),
  evaluations: setting(
    'Evaluations. How often a run may ask this site how well the shared model does on its held-out images.',
    choice({
      'each-round': 'In each round and at the end',
      end: 'Only at the end',
      none: 'None',
    }).default('each-round'),
  ),
});

const leavesShape = grouped('What may leave', {
  allowBaseWeights: setting(
    'Weights of the base model. Whether a run may ask for them; they say far more about the images than adapters do.',
    z.boolean().default(false),
  ),
  noise: setting(
    'Noise. Whether updates may leave without noise that this site adds itself.',
    choice({ optional: 'Not required', 'at-site': 'Only with noise added at this site' }).default('optional'),
  ),
  minNoise: setting(
    'Noise that counts. The smallest noise multiplier that counts as protection.',
    z.number().gt(0).max(1e6).default(0.5),
  ),
  secureAggregation: setting(
    'Secure aggregation. Whether updates may leave that the coordinator can read one by one. This version of Anneal cannot sum updates securely yet: with "required", this site takes part in no run.',
    choice({ optional: 'Not required', required: 'Required' }).default('optional'),
  ),
});

const allowedShape = grouped('What it may be for', {
  purposes: setting(
    'Purposes. A run for another purpose is refused, whatever the consents say.',
    // They leave with every sign of life: all that a policy may say fits an envelope.
    z.array(z.string().min(1).max(200)).max(20).default([defaultPurpose]),
  ),
  baseModels: setting(
    'Base models. SHA-256 of the base models that a run may use; any that is built in or that a person imported here when empty.',
    z
      .array(z.string().regex(/^[0-9a-f]{64}$/))
      .max(100)
      .default([]),
  ),
  allowLeakyBases: setting(
    'Networks that hardly compress. Whether a run may use a base model from whose output a photograph can be rebuilt.',
    z.boolean().default(false),
  ),
  quietHours: setting(
    'Quiet hours. The site does not train in these hours, by its own clock: "07:00-19:00". Empty for none.',
    z
      .string()
      .regex(new RegExp(`^$|^${clock}-${clock}$`), 'must look like 07:00-19:00')
      .default(''),
  ),
});

const keepsShape = grouped('How long it keeps', {
  keepCropsDays: setting(
    'Crops after the last consent. Days for which the crops of a person stay when the last consent has ended; 0: they go at once. A person may choose that they stay.',
    z.int().min(0).max(36_500).default(0),
  ),
  maxDaysWithoutConsent: setting(
    'Crops without consent. Days for which the crops of a person stay of whom no consent was ever recorded; 0: for ever.',
    z.int().min(0).max(36_500).default(0),
  ),
});

const peopleShape = grouped('People', {
  twoPersonApproval: setting(
    'Two people approve. A run is trained here only when a second person has confirmed the approval; the same holds for a policy that protects less.',
    z.boolean().default(false),
  ),
  twoPersonErasure: setting(
    'Two people erase. A subject is erased only when a second person has confirmed it; the same holds for a policy that protects less.',
    z.boolean().default(false),
  ),
});

const degrees = (preset: number) => z.number().min(0).max(180).default(preset);
const shareOf = (preset: number) => z.number().min(0).max(1).default(preset);

/** For images imported from now on; those that are here already stay as they are. */
const imagesShape = grouped('Image quality', {
  minFacePixels: setting(
    'Size of the face. An image whose face is fewer pixels wide than this is set aside.',
    z.int().min(1).max(10_000).default(48),
  ),
  minSharpness: setting(
    'Sharpness. An image whose face is more blurred than this is set aside: about 0.05 is a badly blurred face, 0.3 a sharp one. 0 takes all.',
    z.number().min(0).max(20).default(0.03),
  ),
  maxBlackShare: setting(
    'Black parts. An image is set aside when more of its face than this is black; dark skin in ordinary light is far from black.',
    shareOf(0.6),
    { unit: 'share' },
  ),
  maxWhiteShare: setting(
    'White parts. An image is set aside when more of its face than this is white, as from a flash.',
    shareOf(0.6),
    { unit: 'share' },
  ),
  maxRoll: setting(
    'Tilt of the head. In degrees, to either side; an image with more is set aside. Estimated, right to about ten degrees.',
    degrees(60),
  ),
  maxYaw: setting(
    'Head turned aside. In degrees, to either side; 90 is a profile. Estimated, right to about ten degrees.',
    degrees(75),
  ),
  maxPitch: setting(
    'Head raised or lowered. In degrees, up or down. Estimated, right to about ten degrees.',
    degrees(60),
  ),
});

/** Strict: a rule that this version does not know must not be dropped in silence. */
export const sitePolicySchema = z.strictObject({
  ...dataShape,
  ...trainingShape,
  ...leavesShape,
  ...allowedShape,
  ...keepsShape,
  ...peopleShape,
  ...imagesShape,
});
export type SitePolicy = z.infer<typeof sitePolicySchema>;
export type PolicyRule = keyof SitePolicy;

/** The rules of the quality of images. */
export type ImageLimits = z.infer<z.ZodObject<typeof imagesShape>>;
export const imageLimitsOf = (policy: SitePolicy): ImageLimits => z.object(imagesShape).parse(policy);

export const defaultSitePolicy: SitePolicy = sitePolicySchema.parse({});

/** Every rule with its words, in the order of the screen. */
export const policyRuleList: readonly Setting[] = settingsOf(sitePolicySchema.shape);

const rank = { evaluations: ['none', 'end', 'each-round'], noise: ['at-site', 'optional'] } as const;

/**
 * Rules in which `after` protects less than `before`, or cannot be compared with it. Written to the audit trail with
 * each change, and asked for once more on the screen.
 */
export function weakenedRules(before: SitePolicy, after: SitePolicy): PolicyRule[] {
  const isLower = (rule: PolicyRule) => Number(after[rule]) < Number(before[rule]);
  const isHigher = (rule: PolicyRule) => Number(after[rule]) > Number(before[rule]);
  const adds = (rule: 'purposes') => after[rule].some((value) => !before[rule].includes(value));
  const weakens: Record<PolicyRule, boolean> = {
    minSubjects: isLower('minSubjects'),
    minSubjectsPerClass: isLower('minSubjectsPerClass'),
    minProtectedSubjectsPerClass: isLower('minProtectedSubjectsPerClass'),
    minContributors: isLower('minContributors'),
    minSmallCell: isLower('minSmallCell'),
    minSteps: isLower('minSteps'),
    minBatchSize: isLower('minBatchSize'),
    requireClipping: isLower('requireClipping'),
    maxRounds: isHigher('maxRounds'),
    evaluations: rank.evaluations.indexOf(after.evaluations) > rank.evaluations.indexOf(before.evaluations),
    allowBaseWeights: isHigher('allowBaseWeights'),
    noise: rank.noise.indexOf(after.noise) > rank.noise.indexOf(before.noise),
    minNoise: isLower('minNoise'),
    secureAggregation: before.secureAggregation === 'required' && after.secureAggregation !== 'required',
    purposes: adds('purposes'),
    // An empty list allows all.
    baseModels:
      before.baseModels.length > 0 &&
      (after.baseModels.length === 0 || after.baseModels.some((value) => !before.baseModels.includes(value))),
    allowLeakyBases: isHigher('allowLeakyBases'),
    keepCropsDays: isHigher('keepCropsDays'),
    // 0 is without end.
    maxDaysWithoutConsent:
      before.maxDaysWithoutConsent > 0 &&
      (after.maxDaysWithoutConsent === 0 || isHigher('maxDaysWithoutConsent')),
    twoPersonApproval: isLower('twoPersonApproval'),
    twoPersonErasure: isLower('twoPersonErasure'),
    minFacePixels: isLower('minFacePixels'),
    minSharpness: isLower('minSharpness'),
    maxBlackShare: isHigher('maxBlackShare'),
    maxWhiteShare: isHigher('maxWhiteShare'),
    maxRoll: isHigher('maxRoll'),
    maxYaw: isHigher('maxYaw'),
    maxPitch: isHigher('maxPitch'),
    quietHours: before.quietHours !== '' && after.quietHours !== before.quietHours,
  };
  return (Object.keys(weakens) as PolicyRule[]).filter((rule) => weakens[rule]);
}
