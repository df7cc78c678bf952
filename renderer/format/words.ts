/** The protocol's words as a site data manager would say them. */
import type { RoundRow, RoundSite, RunSummary, SiteOverview, SubjectRow } from '../../core/api/contract.ts';
import type {
  PrivacySettings,
  RobustSettings,
  ServerOptimiserSettings,
  WirePrecision,
} from '../../core/config/round-options.ts';
import type { RunConfig, ScheduleShape, StrategyName } from '../../core/config/run-config.ts';
import type { Stage } from '../../core/strategy/strategy.ts';

export interface StatusWord {
  label: string;
  /** Theme colour of the badge. */
  color: 'green' | 'yellow' | 'red' | 'gray' | 'brand' | 'violet';
}

export const consentWords: Record<SubjectRow['consent'], StatusWord> = {
  active: { label: 'Consent active', color: 'green' },
  withdrawn: { label: 'Withdrawn', color: 'red' },
  expired: { label: 'Expired', color: 'yellow' },
  'not-yet-valid': { label: 'Not yet valid', color: 'yellow' },
  none: { label: 'No consent', color: 'gray' },
};

export const runWords: Record<RunSummary['status'], StatusWord> = {
  waiting: { label: 'Waiting for sites', color: 'yellow' },
  running: { label: 'Running', color: 'brand' },
  evaluating: { label: 'Evaluating', color: 'brand' },
  finished: { label: 'Finished', color: 'green' },
  failed: { label: 'Failed', color: 'red' },
  stopped: { label: 'Stopped', color: 'gray' },
};

export const roundSiteWords: Record<RoundSite['status'], StatusWord> = {
  working: { label: 'Training', color: 'brand' },
  announced: { label: 'Sending', color: 'violet' },
  received: { label: 'Received', color: 'green' },
  rejected: { label: 'Rejected', color: 'red' },
  absent: { label: 'Absent', color: 'gray' },
};

export const roundWords: Record<RoundRow['status'], StatusWord> = {
  open: { label: 'Open', color: 'brand' },
  aggregating: { label: 'Merging', color: 'violet' },
  closed: { label: 'Done', color: 'green' },
};

export const stageWords: Record<Stage, { label: string; explanation: string; color: string }> = {
  initiating: {
    label: 'Initiating',
    explanation: 'Sites find a common start and are kept from drifting apart.',
    color: 'violet',
  },
  heating: {
    label: 'Heating',
    explanation: 'The adapter stays at its largest rank.',
    color: 'orange',
  },
  annealing: {
    label: 'Annealing',
    explanation: 'The rank shrinks round by round.',
    color: 'cyan',
  },
  cooling: {
    label: 'Cooling',
    explanation: 'The adapter stays at its smallest rank and settles.',
    color: 'indigo',
  },
  baseline: {
    label: 'Fixed',
    explanation: 'A method without a schedule: every round is the same.',
    color: 'gray',
  },
};

export const strategyWords: Record<StrategyName, string> = {
  'sa-fedlora': 'SA-FedLoRA (annealed rank)',
  flexlora: 'FlexLoRA (exact, fixed rank)',
  hetlora: 'HetLoRA (ranks by site)',
  'flora-stack': 'FLoRA (stacked factors)',
  'fedavg-lora': 'FedAvg with LoRA (fixed rank)',
  'ffa-lora': 'FFA-LoRA (A frozen)',
  'fedsa-lora': 'FedSA-LoRA (only A is shared)',
  'fedavg-full': 'FedAvg, whole model',
  'fedprox-full': 'FedProx, whole model',
  'head-only': 'Classifier only',
};

/** What each method does, for people who have to choose one. */
export const strategyExplanations: Record<StrategyName, string> = {
  'sa-fedlora':
    'The adapter starts large and shrinks round by round. Merged exactly. The recommended choice.',
  flexlora: 'Merged exactly as above, but the adapter keeps its largest rank in every round.',
  hetlora: 'Sites may have adapters of different ranks; smaller ones are filled up with zeros and averaged.',
  'flora-stack':
    'Adapters are stacked and become part of the model in every round. Exact; sends much to the sites.',
  'fedavg-lora': 'The usual way: both factors of the adapter are averaged apart, which is not exact.',
  'ffa-lora':
    'Half of each adapter stays as it was drawn; the other half is averaged. Goes well with privacy noise.',
  'fedsa-lora': 'One half of each adapter is shared, each site keeps the other to itself.',
  'fedavg-full': 'All weights of the network train and travel. Costly; the classical comparison.',
  'fedprox-full': 'As the whole model, with a pull that keeps the sites from drifting apart.',
  'head-only': 'Only the classifier on top trains; the network stays as it is. What adapters have to beat.',
};

export const initiatingWords: Record<RunConfig['initiatingMode'], string> = {
  lora: 'Adapter at its largest rank',
  full: 'All weights of the network',
  'last-k': 'The last blocks of the network',
};

export const allocationWords: Record<RunConfig['allocation'], string> = {
  uniform: 'The same rank for every layer',
  spectral: 'More rank where it matters most',
};

export const cutOffWords: Record<RunConfig['cutOff'], string> = {
  drop: 'Dropped from the model',
  freeze: 'Kept, but trained no more',
};

export const precisionWords: Record<WirePrecision, string> = {
  fp32: 'Exact (32 bits)',
  fp16: 'Half (16 bits)',
  int8: 'Coarse (8 bits)',
};

export const weightingWords: Record<RunConfig['weighting'], string> = {
  examples: 'By number of images',
  equal: 'All sites alike',
};

export const privacyWords: Record<'none' | PrivacySettings['at'], string> = {
  none: 'None',
  site: 'Each site adds it before sending',
  coordinator: 'The coordinator adds it to the sum',
};

export const robustWords: Record<RobustSettings['rule'], string> = {
  mean: 'None: plain mean',
  'norm-bound': 'Limit outsize updates',
  median: 'Median of each value',
  'trimmed-mean': 'Mean without the extremes',
  'multi-krum': 'Only updates with close neighbours (multi-Krum)',
};

export const serverOptimiserWords: Record<ServerOptimiserSettings['kind'], string> = {
  none: 'None',
  momentum: 'Momentum (FedAvgM)',
  adam: 'Adam (FedAdam)',
};

export const shapeWords: Record<ScheduleShape, string> = {
  cubic: 'Cubic',
  linear: 'Linear',
  cosine: 'Cosine',
};

export const activityWords: Record<SiteOverview['activity'], { title: string; explanation: string }> = {
  'not-joined': {
    title: 'Not part of a federation yet',
    explanation: 'Join with the invitation that your coordinator sent you.',
  },
  waiting: {
    title: 'Ready and waiting',
    explanation: 'Nothing to do for you. Training starts by itself when the coordinator opens a round.',
  },
  'approval-needed': {
    title: 'Your approval is needed',
    explanation: 'A run asks for this site’s help. Nothing is trained or sent before you approve it.',
  },
  downloading: {
    title: 'Getting the shared model',
    explanation: 'The newest shared adapter is on its way to this site.',
  },
  evaluating: {
    title: 'Checking the shared model',
    explanation: 'The shared model is tried on this site’s held-out images. Only the counts leave.',
  },
  training: {
    title: 'Training on this site’s images',
    explanation: 'The images stay here; only the small adapter is sent afterwards.',
  },
  uploading: {
    title: 'Sending the adapter',
    explanation: 'The trained adapter goes to the coordinator. An interrupted transfer goes on by itself.',
  },
  paused: {
    title: 'Paused',
    explanation: 'This site takes no part until you resume. Other sites go on without it.',
  },
};

/** Unknown words of a newer agent are shown as they are. */
export const strategyLabel = (name: string): string => strategyWords[name as StrategyName] ?? name;
