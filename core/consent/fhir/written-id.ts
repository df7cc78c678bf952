/** What the Consents are called that Anneal writes: one per subject and purpose, always the same. */
import { sha256 } from '../../shared/hash.ts';

/** Identifier system of the Consents that Anneal wrote. */
export const writtenSystem = 'https://anneal.example.invalid/fhir/consent';

/** @param ref of the subject, `store.subjects.refOf` */
export const writtenId = (ref: string, purpose: string): string =>
  `anneal-${sha256(`${ref}\n${purpose}`).slice(0, 40)}`;
