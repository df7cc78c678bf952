/**
 * What of the audit trail may be shown to an auditor. New rows name a subject by its keyed hash only; rows of older versions
 * hold pseudonyms. What is not known to be harmless stays here (fail closed): then a row is shown without its details.
 */
import type { ReadOnlyStore } from '../store/store.ts';

export interface Disclosure {
  /** Whether a text holds no pseudonym and no file name of this site. */
  isHarmless(text: string): boolean;
  /** @param details parsed */
  mayShow(action: string, details: unknown): boolean;
}

/** Hashes, identifiers of runs, times, days and numbers: they say nothing about anybody without this store. */
const harmlessPatterns = [
  /^[0-9a-f]{64}$/,
  /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/,
  /^$/,
];

/** Fields whose words come from Anneal, from settings or from the names of sites. */
const knownFields: ReadonlySet<string> = new Set([
  ...['runId', 'siteId', 'siteName', 'name', 'federation', 'sites', 'participants', 'excluded'],
  ...[
    'purpose',
    'documentVersion',
    'kind',
    'stage',
    'strategy',
    'status',
    'code',
    'format',
    'reason',
    'message',
  ],
  ...[
    'changes',
    'weakened',
    'rule',
    'state',
    'mode',
    'timeZone',
    'zone',
    'dataset',
    'fromRun',
    'role',
    'roles',
    'user',
  ],
]);
/** Below one of these every word is Anneal's own. */
const knownObjects: ReadonlySet<string> = new Set(['changes', 'weakened']);
/** Free text of people. */
const freeText: ReadonlySet<string> = new Set(['run-declined reason']);
const fieldName = /^[A-Za-z][A-Za-z0-9_]{0,60}$/;

/** A name of fewer characters is found in any text, and says nothing there. */
const shortest = 4;

export function createDisclosure(store: Pick<ReadOnlyStore, 'subjects' | 'images'>): Disclosure {
  const names = new Set([...store.subjects.pseudonyms(), ...store.images.sourceNames()]);
  const folded = [...names]
    .map((name) => name.normalize('NFC').toLowerCase())
    .filter((name) => name.length >= shortest);
  const known = new Map<string, boolean>();

  function isHarmless(text: string): boolean {
    const before = known.get(text);
    if (before !== undefined) return before;
    const plain = text.normalize('NFC').toLowerCase();
    const harmless = !folded.some((name) => plain.includes(name));
    if (known.size < 100_000) known.set(text, harmless);
    return harmless;
  }

  const isPlain = (text: string) => harmlessPatterns.some((pattern) => pattern.test(text));

  function isShown(action: string, value: unknown, field: string, within: boolean): boolean {
    if (value === null || typeof value === 'number' || typeof value === 'boolean') return true;
    if (typeof value === 'string') {
      if (isPlain(value)) return true;
      return (within || knownFields.has(field)) && !freeText.has(`${action} ${field}`) && isHarmless(value);
    }
    if (Array.isArray(value)) return value.every((item) => isShown(action, item, field, within));
    if (typeof value !== 'object') return false;
    return Object.entries(value).every(
      ([key, inner]) =>
        fieldName.test(key) &&
        isHarmless(key) &&
        isShown(action, inner, key, within || knownObjects.has(field) || knownObjects.has(key)),
    );
  }

  return { isHarmless, mayShow: (action, details) => isShown(action, details, '', false) };
}
