/**
 * What a setting of a run says of itself. The options of the command line, the planning form, the tables in docs/ and
 * the lines of the approval card are all made from this.
 */
import { z } from 'zod';
import { plural } from '../shared/text.ts';

export interface SettingWords {
  label: string;
  /** What it is, in a sentence. */
  help: string;
  /** The heading that it stands under. */
  group: string;
  /** Option of the command line, without dashes; the setting's own name when absent, none when null. */
  flag?: string | null;
  /** Strategies for which it means something; all when absent. */
  for?: readonly StrategyName[];
  /** Path of another setting, and its values with which this one means something. */
  when?: readonly [path: string, ...values: string[]];
  /** Values in words: "Label. What it does." */
  choices?: Readonly<Record<string, string>>;
  /** What it is called when it is absent or null. */
  none?: string;
  /** What a new run gets where nothing is said, if that is not the schema's default, which is that of stored runs. */
  byDefault?: string;
  unit?: 'share' | 'minutes';
  /** Ends and step of its slider in the form; a field without one when absent. */
  slider?: readonly [least: number, most: number, step?: number];
  /** A text of several lines. */
  long?: true;
  /** What the form begins with where the schema has no default. */
  start?: number;
  /** False: the form does not offer it. */
  offered?: false;
}

const registry = z.registry<Partial<SettingWords>>();

/** Label and the rest of a text "Label. One sentence." */
export function splitWords(text: string): { label: string; help: string } {
  const [label = '', ...help] = text.split('. ');
  return { label, help: help.join('. ') };
}

/** @param text "Label. One sentence." */
export function setting<T extends z.ZodType>(text: string, schema: T, more: Partial<SettingWords> = {}): T {
  registry.add(schema, { ...registry.get(schema), ...splitWords(text), ...more });
  return schema;
}

/** One of these words, each with its name for people. */
export function choice<const T extends Readonly<Record<string, string>>>(choices: T) {
  const schema = z.enum(Object.keys(choices) as (keyof T & string)[]);
  registry.add(schema, { choices });
  return schema;
}

/** Puts all settings of a shape that have no heading yet under this one. */
export function grouped<S extends z.ZodRawShape>(group: string, shape: S): S {
  for (const schema of Object.values(shape)) registry.add(schema, { group, ...registry.get(schema) });
  return shape;
}

const strategies = {
  'sa-fedlora':
    'SA-FedLoRA (annealed rank). The adapter starts large and shrinks round by round. Merged exactly. The recommended choice.',
  flexlora: 'FlexLoRA (exact, fixed rank). Merged exactly, but the adapter keeps its largest rank.',
  hetlora: 'HetLoRA (ranks by site). Adapters of different ranks are padded with zeros and averaged.',
  'flora-stack':
    'FLoRA (stacked factors). Adapters are stacked and become part of the model in every round. Exact, but sends a lot to the sites.',
  'fedavg-lora':
    'FedAvg with LoRA (fixed rank). The usual method: the two factors of the adapter are averaged separately, which is not exact.',
  'ffa-lora':
    'FFA-LoRA (A frozen). Half of each adapter keeps its random start; the other half is averaged. Works well with privacy noise.',
  'fedsa-lora':
    'FedSA-LoRA (only A is shared). One half of each adapter is shared; each site keeps the other to itself.',
  'fedavg-full':
    'FedAvg, whole model. All weights of the network train and travel. Costly; the classical comparison.',
  'fedprox-full':
    'FedProx, whole model. All weights train, with a proximal term that keeps the sites from drifting apart.',
  'head-only':
    'Classifier only. Only the classifier on top trains; the network stays as it is. The baseline that adapters have to beat.',
} as const;
export const strategyNameSchema = choice(strategies);
export type StrategyName = keyof typeof strategies;
/** "Label. What it does." by name; a newer version may have names that this one does not know. */
export const strategyWords: Readonly<Record<string, string>> = strategies;

const anneal: StrategyName[] = ['sa-fedlora'];
const wholeModel: StrategyName[] = ['fedavg-full', 'fedprox-full'];
/** Strategies by what they do, for {@link SettingWords.for}. */
export const strategiesThat = {
  anneal,
  trainBaseWeights: [...anneal, ...wholeModel],
  pull: [...anneal, 'fedprox-full'] as StrategyName[],
  haveFactors: strategyNameSchema.options.filter((name) => !['head-only', ...wholeModel].includes(name)),
  takeSiteRanks: [...anneal, 'flexlora', 'hetlora', 'flora-stack'] as StrategyName[],
};

export type SettingKind = 'number' | 'integer' | 'switch' | 'choice' | 'list' | 'names' | 'table' | 'text';

/** A single value that can be set. Settings of two branches may have one path; `when` tells them apart. */
export interface Setting extends SettingWords {
  /** `wire.up` */
  path: string;
  kind: SettingKind;
  /** The schema of a value that is there. */
  schema: z.core.$ZodType;
  default: unknown;
}

type Inherited = Pick<Setting, 'group' | 'when'>;

/** All single settings of a schema, in its order. */
export function settingsOf(
  shape: z.core.$ZodShape,
  prefix = '',
  inherited: Partial<Inherited> = {},
): Setting[] {
  return Object.entries(shape).flatMap(([key, outer]) => {
    const { schema, preset } = unwrap(outer);
    const own = { ...inherited, ...registry.get(schema), ...registry.get(outer) } as SettingWords;
    const common = { group: own.group, ...(own.when && { when: own.when }) };
    const path = prefix + key;
    const deeper = (inner: z.core.$ZodShape, when = common.when) =>
      settingsOf(inner, `${path}.`, { ...common, ...(when && { when }) });
    if (schema instanceof z.ZodObject) return deeper(schema.shape);
    if (schema instanceof z.ZodNullable && !(schema.unwrap() instanceof z.ZodObject)) {
      const inner = schema.unwrap();
      return [{ ...own, path, kind: kindOf(inner), schema: inner, default: preset }];
    }
    if (schema instanceof z.ZodNullable) {
      // The first setting says whether the others are there.
      const [[first, chosen], ...rest] = Object.entries((schema.unwrap() as z.ZodObject).shape) as [
        [string, z.ZodEnum],
      ];
      const when = [`${path}.${first}`, ...(chosen.options as string[])] as const;
      return [...deeper({ [first]: chosen }), ...deeper(Object.fromEntries(rest), when)];
    }
    if (schema instanceof z.ZodDiscriminatedUnion) {
      const by = schema.def.discriminator;
      const branches = (schema.options as z.ZodObject[]).flatMap(({ shape: { [by]: name, ...rest } }) =>
        deeper(rest, [`${path}.${by}`, String((name as z.ZodLiteral).value)]),
      );
      const chosen = settingAt(preset as object, by);
      return [{ ...own, path: `${path}.${by}`, kind: 'choice', schema, default: chosen }, ...branches];
    }
    return [{ ...own, path, kind: kindOf(schema), schema, default: preset }];
  });
}

/** The schema of a value that is there, and what stands in its place where there is none. */
export function unwrap(outer: z.core.$ZodType): { schema: z.core.$ZodType; preset: unknown } {
  if (outer instanceof z.ZodDefault || outer instanceof z.ZodPrefault)
    return { schema: outer.unwrap(), preset: outer.def.defaultValue };
  return { schema: outer instanceof z.ZodExactOptional ? outer.unwrap() : outer, preset: undefined };
}

function kindOf(schema: z.core.$ZodType): SettingKind {
  if (schema instanceof z.ZodNumber) return schema.isInt ? 'integer' : 'number';
  if (schema instanceof z.ZodEnum) return 'choice';
  if (schema instanceof z.ZodArray) return 'list';
  if (schema instanceof z.ZodRecord) return 'table';
  if (schema instanceof z.ZodUnion) return schema.options[0] instanceof z.ZodBoolean ? 'switch' : 'names';
  return schema instanceof z.ZodBoolean ? 'switch' : 'text';
}

/** The value at a path like `wire.up`. */
export function settingAt(config: object, path: string): unknown {
  const inside = (found: unknown, key: string) => (found as Record<string, unknown> | null)?.[key];
  return path.split('.').reduce<unknown>(inside, config);
}

/** Whether a setting's strategies include the one that is chosen. */
export const suitsStrategy = ({ for: strategies }: Setting, config: { strategy: StrategyName }): boolean =>
  strategies === undefined || strategies.includes(config.strategy);

/** Whether the values of another setting that it belongs to are chosen. */
export const isChosen = ({ when }: Setting, config: object): boolean =>
  when === undefined || when.slice(1).includes(String(settingAt(config, when[0])));

/** A value as a person reads it. */
export function formatSetting({ choices, unit, none = 'none' }: Setting, value: unknown): string {
  if (value === undefined || value === null) return none;
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  if (unit === 'share') return `${Number((Number(value) * 100).toPrecision(6))} %`;
  if (unit === 'minutes') return plural(Number(value) / 60_000, 'minute');
  if (Array.isArray(value)) return value.join(', ');
  if (typeof value !== 'object') return splitWords(choices?.[String(value)] ?? '').label || String(value);
  const entries = Object.entries(value).map(([name, number]) => `${name} ${String(number)}`);
  return entries.join(', ') || none;
}
