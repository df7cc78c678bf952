/**
 * Whether one contract asks for no more than another, field by field. A field without a rule of its own must be the same:
 * what cannot be compared asks a person again.
 */
import type { PrivacySettings, RobustSettings, WirePrecision } from '../config/round-options.ts';
import { canonicalJson } from '../shared/hash.ts';
import type { Contract } from './contract.ts';

/** A field in which a contract asks for more than was granted, or for something that cannot be compared. */
export interface Excess {
  /** `settings.training.batchSize` */
  path: string;
  granted: unknown;
  asked: unknown;
}

/** Whether what is asked is within what was granted. */
type Rule = (granted: never, asked: never) => boolean;

const rule = <T>(allows: (granted: T, asked: T) => boolean): Rule => allows;

const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);
const atMost = rule((granted, asked) => isNumber(granted) && isNumber(asked) && asked <= granted);
const atLeast = rule((granted, asked) => isNumber(granted) && isNumber(asked) && asked >= granted);
const anything = rule(() => true);

const precisions: readonly WirePrecision[] = ['int8', 'fp16', 'fp32'];
const isNoFiner = (granted: WirePrecision, asked: WirePrecision) =>
  precisions.includes(asked) && precisions.indexOf(asked) <= precisions.indexOf(granted);

/**
 * By the path of a contract's field; a rule for an object decides about all of it. Paths that are not here, also those
 * of settings that a later version adds, must be equal.
 */
export const comparisons: Readonly<Record<string, Rule>> = {
  'settings.title': anything,
  'settings.note': anything,
  // Random numbers and patience say nothing about anybody.
  'settings.seed': anything,
  'settings.roundDeadlineMs': anything,
  'settings.classes': rule<string[]>((granted, asked) => asked.every((label) => granted.includes(label))),
  'settings.rounds': atMost,
  'settings.rMax': atMost,
  'settings.quorum': atLeast,
  'settings.smallCell': atLeast,
  'settings.wire.up': rule(isNoFiner),
  'settings.privacy': rule(protectsAsMuch),
  'settings.robust': rule(isAsRobust),
  // Null: no cap.
  'settings.weightCap': rule<number | null>(
    (granted, asked) => granted === null || (asked !== null && asked <= granted),
  ),
  'settings.training.batchSize': atLeast,
  // 0 turns clipping off.
  'settings.training.clipNorm': rule<number>(
    (granted, asked) =>
      isNumber(granted) && isNumber(asked) && (granted === 0 || (asked > 0 && asked <= granted)),
  ),
  minContributors: atLeast,
  leaves: rule(leavesNoMore),
};

/** @returns nothing when all that `asked` asks for was granted */
export function asksForMore(granted: Contract, asked: Contract): Excess[] {
  return excessAt('', granted, asked);
}

function excessAt(path: string, granted: unknown, asked: unknown): Excess[] {
  const own = Object.hasOwn(comparisons, path) ? comparisons[path]! : null;
  if (own !== null) {
    const isThere = granted !== undefined && asked !== undefined;
    return isThere && own(granted as never, asked as never) ? [] : [{ path, granted, asked }];
  }
  if (isObject(granted) && isObject(asked)) {
    const keys = new Set([...Object.keys(granted), ...Object.keys(asked)]);
    return [...keys].flatMap((key) =>
      excessAt(path === '' ? key : `${path}.${key}`, ownValue(granted, key), ownValue(asked, key)),
    );
  }
  return isSame(granted, asked) ? [] : [{ path, granted, asked }];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const ownValue = (object: Record<string, unknown>, key: string) =>
  Object.hasOwn(object, key) ? object[key] : undefined;

function isSame(granted: unknown, asked: unknown): boolean {
  if (granted === undefined || asked === undefined) return granted === asked;
  return canonicalJson(granted) === canonicalJson(asked);
}

const places = ['coordinator', 'site'] as const;

/** With the same noise or more, of the same or a lower clipping norm, in the same place or nearer to the images. */
function protectsAsMuch(granted: PrivacySettings | null, asked: PrivacySettings | null): boolean {
  if (granted === null) return true;
  if (asked === null) return false;
  return (
    places.indexOf(asked.at) >= places.indexOf(granted.at) &&
    asked.clipNorm <= granted.clipNorm &&
    asked.noiseMultiplier >= granted.noiseMultiplier &&
    asked.delta <= granted.delta
  );
}

/** A plain mean lets a single site decide the most; two different rules cannot be compared. */
function isAsRobust(granted: RobustSettings, asked: RobustSettings): boolean {
  if (granted.rule === 'mean') return true;
  if (granted.rule === 'norm-bound' && asked.rule === 'norm-bound') return asked.factor <= granted.factor;
  if (granted.rule === 'trimmed-mean' && asked.rule === 'trimmed-mean') return asked.share >= granted.share;
  if (granted.rule === 'multi-krum' && asked.rule === 'multi-krum')
    return asked.byzantine >= granted.byzantine;
  return granted.rule === 'median' && asked.rule === 'median';
}

/** No other tensor, no larger one, no finer number, no round with more, and no more in all. */
function leavesNoMore(granted: Contract['leaves'], asked: Contract['leaves']): boolean {
  const known = new Map(granted.tensors.map(({ name, dims }) => [name, dims]));
  const most = {
    tensors: Math.max(0, ...granted.rounds.map(({ tensors }) => tensors)),
    values: Math.max(0, ...granted.rounds.map(({ values }) => values)),
    bytes: Math.max(0, ...granted.rounds.map(({ bytes }) => bytes)),
  };
  return (
    isNoFiner(granted.precision, asked.precision) &&
    asked.bytes <= granted.bytes &&
    asked.tensors.every(({ name, dims }) => isWithin(dims, known.get(name))) &&
    asked.rounds.every(
      ({ tensors, values, bytes }) => tensors <= most.tensors && values <= most.values && bytes <= most.bytes,
    )
  );
}

function isWithin(dims: readonly number[], most: readonly number[] | undefined): boolean {
  return most !== undefined && dims.length === most.length && dims.every((size, axis) => size <= most[axis]!);
}
