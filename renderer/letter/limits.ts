/** The limits of "approve within these limits": where each begins, which way it may go, and what it means. */
import type { EditableLimits, Limits } from '../../core/api/contract.ts';
import { runSettingList } from '../../core/config/run-config.ts';
import { todayIsoDate } from '../format/format.ts';

type NumberLimit = Exclude<keyof EditableLimits, 'classes'>;

export interface LimitField {
  key: NumberLimit;
  label: string;
  /** Which way a limit may go from the run's own value: it has to cover the run that is on the card. */
  direction: 'up' | 'down';
  /** What it says about later runs. */
  means: string;
}

const labelOf = (path: string) => runSettingList.find((setting) => setting.path === path)?.label ?? path;

export const limitFields: readonly LimitField[] = [
  { key: 'rounds', label: labelOf('rounds'), direction: 'up', means: 'A later run may have fewer rounds.' },
  { key: 'rMax', label: labelOf('rMax'), direction: 'up', means: 'A later run may send smaller adapters.' },
  {
    key: 'quorum',
    label: 'Contributing sites, at least',
    direction: 'down',
    means: 'A later run may ask for more sites, so that yours is one of more.',
  },
  {
    key: 'smallCell',
    label: labelOf('smallCell'),
    direction: 'down',
    means: 'A later run may leave more counts out.',
  },
  {
    key: 'batchSize',
    label: labelOf('training.batchSize'),
    direction: 'down',
    means: 'A later run may mix more images in each step.',
  },
  {
    key: 'clipNorm',
    label: labelOf('training.clipNorm'),
    direction: 'up',
    means: 'A later run may clip gradients more.',
  },
];

export interface LimitsForm extends EditableLimits {
  runs: number;
  /** The last day, `2027-06-30`; empty for no end. */
  lastDay: string;
}

/** The run's own values, for two runs within a year. */
export function initialLimits(limits: EditableLimits, now: Date = new Date()): LimitsForm {
  const nextYear = new Date(now.getFullYear() + 1, now.getMonth(), now.getDate());
  return { ...limits, runs: 2, lastDay: todayIsoDate(nextYear) };
}

/** What is wrong with a form, by field. @param run the values of the run on the card */
export function faultsOf(
  form: LimitsForm,
  run: EditableLimits,
  now: Date = new Date(),
): Partial<Record<keyof LimitsForm, string>> {
  const faults: Partial<Record<keyof LimitsForm, string>> = {};
  for (const { key, direction } of limitFields) {
    const isEnough = direction === 'up' ? form[key] >= run[key] : form[key] <= run[key];
    if (!isEnough) faults[key] = `This run needs ${run[key]}: a limit has to cover the run in this letter.`;
  }
  const missing = run.classes.filter((label) => !form.classes.includes(label));
  if (missing.length > 0)
    faults.classes = `This run needs ${missing.map((label) => `"${label}"`).join(', ')}: limits have to cover the run in this letter.`;
  if (form.lastDay !== '' && form.lastDay < todayIsoDate(now)) faults.lastDay = 'This day is over.';
  return faults;
}

/** As the site's agent takes them: the last day ends at midnight of the reader's clock. */
export function writtenLimits({ lastDay, ...limits }: LimitsForm): Limits {
  const [year, month, day] = lastDay.split('-').map(Number);
  const end = lastDay === '' ? null : new Date(year!, month! - 1, day! + 1);
  return { ...limits, until: end?.toISOString() ?? null };
}
