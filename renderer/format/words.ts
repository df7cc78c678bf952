/** The protocol's words as a site data manager would say them. */
import type {
  ApprovalCard,
  DecisionRow,
  RoundRow,
  RoundSite,
  RunSummary,
  SiteOverview,
  SubjectRow,
} from '../../core/api/contract.ts';
import { splitWords, strategyWords } from '../../core/config/setting.ts';
import type { Stage } from '../../core/strategy/strategy.ts';

export interface StatusWord {
  label: string;
  /** Theme colour of the badge. */
  color: 'green' | 'yellow' | 'red' | 'gray' | 'brand' | 'violet';
}

export const consentWords: Record<SubjectRow['consent'], StatusWord> = {
  active: { label: 'Active', color: 'green' },
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
  paused: { label: 'Paused', color: 'yellow' },
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

export const activityWords: Record<SiteOverview['activity'], { title: string; explanation: string }> = {
  'not-joined': {
    title: 'Not part of a federation yet',
    explanation: 'Join with the invitation that your coordinator sent you.',
  },
  waiting: {
    title: 'Ready and waiting',
    explanation: 'You have nothing to do. Training starts on its own when the coordinator opens a round.',
  },
  'approval-needed': {
    title: 'Your approval is needed',
    explanation:
      'The coordinator asks this site to take part in a run. Nothing is trained or sent before you approve it.',
  },
  declined: {
    title: 'You declined this run',
    explanation:
      'The other sites continue without this one. You can read the letter again and change your mind.',
  },
  refused: {
    title: 'This site does not take part in this run',
    explanation:
      'The run asks for something that this site does not allow. Nothing is trained or sent; the coordinator sees why.',
  },
  downloading: {
    title: 'Getting the shared model',
    explanation: 'The newest shared adapter is on its way to this site.',
  },
  evaluating: {
    title: 'Checking the shared model',
    explanation: 'The shared model is tested on this site’s held-out images. Only the counts leave the site.',
  },
  training: {
    title: 'Training on this site’s images',
    explanation: 'The images stay here; only the small adapter is sent afterwards.',
  },
  uploading: {
    title: 'Sending the adapter',
    explanation: 'The trained adapter goes to the coordinator. An interrupted transfer resumes on its own.',
  },
  restored: {
    title: 'Stopped: the data is from an earlier state',
    explanation: 'This site takes part in nothing until a person has compared the consents and confirmed it.',
  },
  paused: {
    title: 'Paused',
    explanation: 'This site takes no part until you resume. The other sites continue without it.',
  },
};

export const decisionWords: Record<DecisionRow['kind'], StatusWord> = {
  approved: { label: 'Approved', color: 'green' },
  'approved-within-limits': { label: 'Approved within limits', color: 'green' },
  covered: { label: 'Covered by limits', color: 'brand' },
  declined: { label: 'Declined', color: 'red' },
};

const factorWords = { both: 'LoRA factors', a: 'LoRA factors A', b: 'LoRA factors B', none: 'No factors' };

/** The round before training, in which the classifier's start is made. */
export const classMeansWord = {
  label: 'Class means',
  explanation: 'Nothing trains yet: the sites send sums of embeddings, of which the classifier is made.',
  color: 'grape',
};

/** What of the model leaves in a round, in a few words. */
export function leavingWords({ mode, sends }: ApprovalCard['leavingRounds'][number]): string {
  if (mode === 'lora') return factorWords[sends];
  return {
    full: 'All weights',
    'last-k': 'Weights of the last blocks',
    head: 'Classifier',
    prototypes: 'Class means',
  }[mode];
}

/** Unknown words of a newer agent are shown as they are. */
export const strategyLabel = (name: string): string => splitWords(strategyWords[name] ?? name).label;
