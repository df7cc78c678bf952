/** Which codes of a hospital's consents mean which purpose of Anneal: said by the site, for no code says so by itself. */
import { z } from 'zod';
import { AppError } from '../../shared/errors.ts';
import type { ReadOnlyStore, Store } from '../../store/store.ts';
import { everyPurpose } from '../consent.ts';
import type { FhirCoding } from './consent-schema.ts';

/** Code system of Anneal's own purposes, in consents that Anneal wrote. */
export const purposeSystem = 'https://anneal.example.invalid/fhir/purpose';
/** Identifier system of the pseudonyms in consents that Anneal wrote. */
export const pseudonymSystem = 'https://anneal.example.invalid/fhir/pseudonym';

const word = z.string().trim().min(1).max(200);
const mappingSchema = z.strictObject({
  /** Null: a code of this name in any system. */
  system: z.string().trim().min(1).max(400).nullable(),
  code: word,
  purpose: word.refine((purpose) => purpose !== everyPurpose, 'must be one purpose'),
});
export type PurposeMapping = z.infer<typeof mappingSchema>;

export const fhirOptionsSchema = z.strictObject({
  /** The system of the identifier that is the pseudonym; null: the id in `Patient/ID`. */
  identifierSystem: z.string().trim().min(1).max(400).nullable(),
  purposes: z.array(mappingSchema).max(500),
});
export type FhirOptions = z.infer<typeof fhirOptionsSchema>;
/** What a person says with one import; added to what was said before. */
export const fhirChangesSchema = z.strictObject({
  ...fhirOptionsSchema.partial().shape,
  /** Codes that stand for nothing any more, in whatever system. */
  forget: z.array(word).max(500).optional(),
});
export type FhirChanges = z.infer<typeof fhirChangesSchema>;

const setting = 'consent.fhir';

export function fhirOptions(store: ReadOnlyStore): FhirOptions {
  return store.settings.get(setting, fhirOptionsSchema) ?? { identifierSystem: null, purposes: [] };
}

/** A code that is mapped already is mapped anew. */
export function changedOptions(options: FhirOptions, changes: FhirChanges): FhirOptions {
  const key = ({ system, code }: PurposeMapping) => JSON.stringify([system, code]);
  const added = changes.purposes ?? [];
  const replaced = new Set(added.map(key));
  const forgotten = new Set(changes.forget);
  const kept = options.purposes.filter((entry) => !replaced.has(key(entry)) && !forgotten.has(entry.code));
  return {
    identifierSystem:
      changes.identifierSystem === undefined ? options.identifierSystem : changes.identifierSystem,
    purposes: [...kept, ...added],
  };
}

export function rememberOptions(store: Store, options: FhirOptions): void {
  store.settings.set(setting, fhirOptionsSchema.parse(options));
}

/**
 * `CODE=purpose` or `SYSTEM|CODE=purpose`, as a person types it.
 * @throws AppError CONFIG_INVALID
 */
export function parsePurposeMapping(text: string): PurposeMapping {
  const at = text.lastIndexOf('=');
  const [left, purpose] = [text.slice(0, Math.max(at, 0)), text.slice(at + 1)];
  const bar = left.lastIndexOf('|');
  const parsed = mappingSchema.safeParse({
    system: bar < 0 ? null : left.slice(0, bar),
    code: left.slice(bar + 1),
    purpose,
  });
  if (parsed.success) return parsed.data;
  throw new AppError(
    'CONFIG_INVALID',
    'A purpose of a FHIR code is written as CODE=purpose or SYSTEM|CODE=purpose.',
    {
      action: 'For instance --purpose-map "2.16.840.1.113883.3.1937.777.24.5.3.8=federated-training".',
    },
  );
}

/** The purposes that a code stands for; `*` of Anneal's own system stands for every one. */
export function purposesOf({ system, code }: FhirCoding, options: FhirOptions): string[] {
  if (code === undefined) return [];
  if (system === purposeSystem) return [code];
  return options.purposes
    .filter((entry) => entry.code === code && (entry.system === null || entry.system === system))
    .map(({ purpose }) => purpose);
}
