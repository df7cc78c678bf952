/** Why a run asks again, in the words of its settings: what it asks for beyond what was approved before. */
import { runSettingList } from '../config/run-config.ts';
import { formatSetting } from '../config/setting.ts';
import { plural } from '../shared/text.ts';
import type { Excess } from './asks-for-more.ts';

export interface Difference {
  /** As people know the setting. */
  label: string;
  before: string;
  now: string;
}

const otherLabels: Readonly<Record<string, string>> = {
  minContributors: 'Contributing sites',
  leaves: 'What leaves this site',
  'settings.privacy': 'Noise',
  'settings.robust': 'Rule',
};

export const describeExcess = (excess: readonly Excess[]): Difference[] =>
  excess.map(({ path, granted, asked }) => {
    const setting = runSettingList.find((entry) => `settings.${entry.path}` === path);
    const words = (value: unknown) =>
      setting === undefined ? plainWords(path, value) : formatSetting(setting, value);
    return {
      label: setting?.label ?? otherLabels[path] ?? path.replace('settings.', ''),
      before: words(granted),
      now: words(asked),
    };
  });

function plainWords(path: string, value: unknown): string {
  if (value === undefined || value === null) return 'none';
  if (path === 'leaves') {
    const { tensors, bytes } = value as { tensors: unknown[]; bytes: number };
    return `${plural(tensors.length, 'tensor')}, ${plural(bytes, 'byte')} in all`;
  }
  if (typeof value !== 'object') return String(value);
  return Object.entries(value)
    .map(([key, inner]) => `${key} ${String(inner)}`)
    .join(', ');
}
