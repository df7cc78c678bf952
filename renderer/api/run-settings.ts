/** The settings of a run in the planning form. What there is, its defaults and its words stand in core/config. */
import type { RunDetail } from '../../core/api/contract.ts';
import {
  defaultRunConfig,
  type RunConfig,
  type RunSettings,
  runSettingList,
} from '../../core/config/run-config.ts';
import { isChosen, type Setting, settingAt, suitsStrategy } from '../../core/config/setting.ts';

/** What the coordinator chooses by how many sites there are, unless a person does. */
type ByNumberOfSites = 'quorum' | 'robust' | 'weightCap';
type LeftToTheCoordinator = 'baseId' | 'baseSha256' | 'baseOrigin' | 'purpose' | ByNumberOfSites;
export type FormSettings = Omit<RunConfig, LeftToTheCoordinator> & {
  [Key in ByNumberOfSites]?: RunConfig[Key] | undefined;
} & {
  /** The coordinator's default when absent. */
  baseId?: string | undefined;
};

export const offeredSettings = runSettingList.filter(({ offered }) => offered !== false);

/** A run without protection is no reason for the next one to have none: that is said anew for each. */
function settingsOf(config: RunConfig): FormSettings {
  // What the classifier starts from follows from the other settings.
  const { baseId, baseSha256, baseOrigin, purpose, quorum, robust, weightCap, headStart, ...settings } =
    config;
  return {
    ...settings,
    ...(robust.rule !== 'mean' && { robust }),
    ...(weightCap !== null && { weightCap }),
  };
}

/** The coordinator's own defaults. */
export const initialSettings = (): FormSettings =>
  settingsOf(defaultRunConfig({ baseId: '', baseSha256: '', classes: [] }));

/** What the next plan starts with: the settings of the run before. */
export const settingsOfRun = ({ config }: RunDetail): FormSettings => ({
  ...settingsOf(config),
  baseId: config.baseId,
});

/** What is sent: an emptied field is left to the coordinator. */
export function writtenSettings(values: FormSettings): RunSettings {
  const present = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(present) as RunSettings;
}

/** Fewer rounds shorten the fixed stages as far as needed, cooling first. */
export function fitRounds(values: FormSettings, rounds: number): Partial<FormSettings> {
  const initiatingRounds = Math.min(values.initiatingRounds, rounds);
  const heatingRounds = Math.min(values.heatingRounds, rounds - initiatingRounds);
  const coolingRounds = Math.min(values.coolingRounds, rounds - initiatingRounds - heatingRounds);
  return { rounds, initiatingRounds, heatingRounds, coolingRounds };
}

/** Rounds that no stage has taken yet. */
const roundsLeft = ({ rounds, initiatingRounds, heatingRounds, coolingRounds }: FormSettings): number =>
  Math.max(0, rounds - initiatingRounds - heatingRounds - coolingRounds);

/** The end of a slider: no stage takes rounds that another one has. */
export function largest({ path, slider }: Setting, values: FormSettings): number {
  const isStage = ['initiatingRounds', 'heatingRounds', 'coolingRounds'].includes(path);
  return isStage ? Number(settingAt(values, path)) + roundsLeft(values) : slider![1];
}

/** Whether a setting means nothing beside the others. */
export const isIdle = (setting: Setting, values: FormSettings): boolean =>
  !suitsStrategy(setting, values) ||
  (['initiatingMode', 'lastK'].includes(setting.path) && values.initiatingRounds === 0);

/** Whether the form shows a setting: an idle one only while its value says something else than the default. */
export function isShown(setting: Setting, values: FormSettings): boolean {
  if (!isChosen(setting, values)) return false;
  if (setting.group === 'Schedule') return !(setting.path === 'lastK' && isIdle(setting, values));
  const asDefault = JSON.stringify(settingAt(values, setting.path)) === JSON.stringify(setting.default);
  return !isIdle(setting, values) || !asDefault;
}

/** What changes with a setting, and with what follows from it. */
export function changeSetting(values: FormSettings, setting: Setting, value: unknown): Partial<FormSettings> {
  const { path } = setting;
  const [key = '', inner] = path.split('.');
  if (path === 'rounds') return fitRounds(values, Number(value));
  if (path === 'rMax') return { rMax: Number(value), rMin: Math.min(values.rMin, Number(value)) };
  if (path === 'rMin') return { rMin: Number(value), rMax: Math.max(values.rMax, Number(value)) };
  if (inner === undefined) return { [key]: value };
  if (value === null || value === undefined) return { [key]: value };
  // Noise on the sum protects sites that all count alike.
  const follows = path === 'privacy.at' && value === 'coordinator' ? { weighting: 'equal' as const } : {};
  return { [key]: { ...groupBeside(values, setting, value), [inner]: value }, ...follows };
}

/** The other values of a group. Another branch, or a group that was off, begins with what its settings begin with. */
function groupBeside(values: FormSettings, { path, schema }: Setting, value: unknown): object {
  const group = settingAt(values, path.split('.')[0]!) as object | null | undefined;
  if (group !== null && group !== undefined && schema._zod.def.type !== 'union') return group;
  const beside = offeredSettings.filter(({ when }) => when?.[0] === path && when.includes(String(value)));
  return Object.fromEntries(beside.map((other) => [other.path.split('.')[1], other.default ?? other.start]));
}
