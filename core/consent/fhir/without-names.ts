/**
 * A Consent without what says who somebody is: names shown beside references, the text for people, contact data, scans.
 * Anneal keeps the rest exactly as it came.
 */
import { z } from 'zod';

const objectSchema = z.record(z.string(), z.unknown());
type Json = Record<string, unknown>;

/** Kept of a contained person: what it is called in this resource, and what it is to the subject. */
const keptOfPerson = new Set(['resourceType', 'id', 'meta', 'patient', 'relationship', 'active', 'period']);
const persons = new Set(['Patient', 'RelatedPerson', 'Practitioner', 'Person', 'PractitionerRole']);
/** Of extensions with such a value nothing is left. */
const personalValues = [
  'HumanName',
  'Address',
  'ContactPoint',
  'ContactDetail',
  'Attachment',
  'Annotation',
  'Signature',
];
/** Where FHIR writes the words that stand in a reference's stead. */
const referenceKeys = ['reference', 'identifier'];

/** @param resource of bounded depth; is not changed */
export function withoutNames(resource: Json): Json {
  const { text: _narrative, ...rest } = resource;
  const kept = keep(rest) as Json;
  // A scan is the person's signature; its hash and date say which one it was.
  const scan = objectSchema.safeParse(kept['sourceAttachment']);
  if (scan.success) {
    const { data: _data, title: _title, ...described } = scan.data;
    if (Object.keys(described).length > 0) kept['sourceAttachment'] = described;
    else delete kept['sourceAttachment'];
  }
  return kept;
}

function keep(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((entry) => !isPersonal(entry)).map(keep);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value as Json).filter(([name]) => isKept(name, value as Json));
  return Object.fromEntries(
    fields.map(([name, inner]) => [name, keep(inner)]).filter(([, inner]) => !isEmptyList(inner)),
  );
}

function isKept(name: string, owner: Json): boolean {
  if (persons.has(String(owner['resourceType']))) return keptOfPerson.has(name);
  if (
    typeof owner['resourceType'] === 'string' &&
    (name === 'text' || name === 'contact' || name === 'telecom')
  )
    return false;
  // A coding's display is a word of its code system; a reference's is the name of whom it points to.
  if (name !== 'display' && name !== '_display') return true;
  return !referenceKeys.some((key) => key in owner) && 'code' in owner;
}

const isPersonal = (value: unknown) =>
  typeof value === 'object' && value !== null && personalValues.some((kind) => `value${kind}` in value);
const isEmptyList = (value: unknown) => Array.isArray(value) && value.length === 0;
