/** Whom a Consent is about: the pseudonym, found through a reference or an identifier, never through a name. */
import type { FhirIdentifier, FhirPerson, FhirReference } from './consent-schema.ts';
import { pseudonymSystem } from './purpose-map.ts';

/** Patients and related persons of the file, by what references call them. */
export type PersonIndex = ReadonlyMap<string, FhirPerson>;

export type FoundPseudonym = { pseudonym: string } | { problem: string };

/** `Patient/x`, of a reference that is relative, absolute, or to one version. */
const patientReference = /(?:^|\/)Patient\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/[A-Za-z0-9\-.]{1,64})?$/;

/** @param identifierSystem the site's choice; null: the id in the reference */
export function pseudonymOf(
  patient: FhirReference,
  identifierSystem: string | null,
  persons: PersonIndex,
): FoundPseudonym {
  if (patient.type !== undefined && !/(^|\/)Patient$/.test(patient.type)) {
    return { problem: 'is about something that is no Patient' };
  }
  const { reference } = patient;
  const id = reference === undefined ? undefined : patientReference.exec(reference)?.[1];
  const resource =
    reference === undefined ? undefined : (persons.get(reference) ?? (id && persons.get(`Patient/${id}`)));
  const identifiers = [
    ...(patient.identifier ? [patient.identifier] : []),
    ...((resource ? resource.identifier : undefined) ?? []),
  ];
  // Anneal's own system is unmistakable, whatever the site has chosen for other senders.
  const own = valuesOf(identifiers, pseudonymSystem);
  const values = own.length > 0 || identifierSystem === null ? own : valuesOf(identifiers, identifierSystem);
  if (values.length > 1) return { problem: 'names two different identifiers of its patient' };
  if (values.length === 1) return { pseudonym: values[0]! };
  if (identifierSystem !== null)
    return { problem: 'names no identifier of the chosen system for its patient' };
  if (reference?.startsWith('#')) return { problem: 'holds its patient inside, which Anneal does not read' };
  const found = id ?? (resource && resource.resourceType === 'Patient' ? resource.id : undefined);
  return found === undefined
    ? { problem: 'does not say by a reference whose consent it is' }
    : { pseudonym: found };
}

function valuesOf(identifiers: readonly FhirIdentifier[], system: string): string[] {
  const values = identifiers.flatMap((identifier) =>
    identifier.system === system && identifier.value !== undefined ? [identifier.value] : [],
  );
  return [...new Set(values)];
}

/** HL7 v3 RoleCode of those who decide for a child or a ward. */
const guardianCodes = new Set([
  'GUARD',
  'PRN',
  'PRNINLAW',
  'FTH',
  'MTH',
  'NFTH',
  'NMTH',
  'ADOPTP',
  'ADOPTF',
  'ADOPTM',
  'STPPRN',
  'PRNFOST',
]);

export type GivenBy = 'subject' | 'guardian' | 'representative';

/**
 * Who consented. Performers may also be those who took the consent, which says nothing.
 * @param contained persons in the Consent itself, by `#id`
 */
export function givenByOf(
  performers: readonly FhirReference[],
  patient: FhirReference,
  persons: PersonIndex,
  contained: PersonIndex,
): GivenBy | null {
  const kinds = performers.map((performer): GivenBy | null => {
    const { reference, type } = performer;
    const person = reference === undefined ? undefined : (contained.get(reference) ?? persons.get(reference));
    const kind =
      person?.resourceType ?? type ?? /(?:^|\/)([A-Z][A-Za-z]+)\/[^/]+$/.exec(reference ?? '')?.[1];
    if (kind === 'Patient') return isSamePerson(performer, patient) ? 'subject' : 'representative';
    if (kind !== 'RelatedPerson') return null;
    const codings = (person?.relationship ?? []).flatMap(({ coding }) => coding ?? []);
    return codings.some(({ code }) => guardianCodes.has(code ?? '')) ? 'guardian' : 'representative';
  });
  // Where several signed, the one who decides for the subject is the one to know of.
  return (
    kinds.find((kind) => kind === 'guardian') ??
    kinds.find((kind) => kind === 'representative') ??
    kinds.find((kind) => kind === 'subject') ??
    null
  );
}

function isSamePerson(performer: FhirReference, patient: FhirReference): boolean {
  if (performer.reference !== undefined && patient.reference !== undefined) {
    return performer.reference === patient.reference;
  }
  const [one, other] = [performer.identifier, patient.identifier];
  return one !== undefined && other !== undefined && one.value === other.value && one.system === other.system;
}
