/** One FHIR Consent as a statement about one subject: what it permits when, what it refuses, or why it gives nothing. */
import { canonicalJson, sha256 } from '../../shared/hash.ts';
import { everyPurpose } from '../consent.ts';
import { pseudonymSchema } from '../pseudonym.ts';
import {
  type FhirCoding,
  type FhirConcept,
  type FhirConsent,
  fhirConsentSchema,
  personSchema,
} from './consent-schema.ts';
import { type Moment, momentOf } from './fhir-dates.ts';
import { always, between, type Instants, intersection, never } from './intervals.ts';
import { type GivenBy, givenByOf, type PersonIndex, pseudonymOf } from './patient.ts';
import {
  answerOf,
  type CodeMatch,
  codingsIn,
  maxProvisionDepth,
  maxProvisions,
  sizeOf,
} from './provisions.ts';
import { type FhirOptions, purposeSystem, purposesOf } from './purpose-map.ts';
import type { FoundResource } from './read-resources.ts';
import { problemsOf } from './validate.ts';
import { withoutNames } from './without-names.ts';

export interface PurposeStatement {
  /** Certain and bounded by the date of the consent; the begin may be -Infinity when no date is given at all. */
  permitted: Instants;
  refused: Instants;
}

export interface ConsentStatement {
  place: string;
  /** What the resource is called wherever it turns up again: by its identifier, else by its id. */
  key: string;
  pseudonym: string;
  /** Canonical JSON of the resource without names, and its hash. */
  document: string;
  sha256: string;
  /** From every purpose, whatever codes the site knows. */
  refusesEverything: boolean;
  /** Why it gives no grant, in words; null when it may. */
  barred: string | null;
  /** When it was given; null when it does not say. */
  signed: Moment | null;
  documentVersion: string;
  givenBy: GivenBy | null;
  /** ISO date. */
  verifiedOn: string | null;
  purposes: ReadonlyMap<string, PurposeStatement>;
  /** Codes that stand for no purpose here, `system|code`. */
  unmapped: string[];
  /** Names and the like were in it, and are not kept. */
  hadNames: boolean;
}

export interface Reading {
  zone: string;
  options: FhirOptions;
  persons: PersonIndex;
  /** Purposes that somebody here has consented to: a consent without a code of theirs may still deny everything. */
  purposes: readonly string[];
}

/** More would be no consent that anybody signed. */
const maxIntervals = 50;
/** Canonical JSON without names; consents of the broad-consent kind have 10 kB. */
const maxDocumentLength = 256 * 1024;

export type Interpreted = { statement: ConsentStatement } | { problem: string };

/** @param found a resource of type Consent */
export function interpretConsent(found: FoundResource, reading: Reading): Interpreted {
  if (hasUnknownModifier(found.resource)) {
    return { problem: 'has a modifier (modifierExtension or implicitRules) that may change its meaning' };
  }
  const problems = problemsOf(found.resource);
  if (problems.length > 0) return { problem: `is no valid FHIR R4 Consent: ${problems[0]}` };
  const parsed = fhirConsentSchema.safeParse(found.resource);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    return { problem: `holds what Anneal does not read at "${path.join('.')}": ${message}` };
  }
  const { count, depth } = sizeOf(parsed.data.provision);
  if (depth > maxProvisionDepth || count > maxProvisions) {
    return {
      problem: `nests provisions deeper than ${maxProvisionDepth}, or has more than ${maxProvisions}`,
    };
  }
  return state(found, parsed.data, reading);
}

function state(found: FoundResource, consent: FhirConsent, reading: Reading): Interpreted {
  const named = pseudonymOf(consent.patient, reading.options.identifierSystem, reading.persons);
  if ('problem' in named) return named;
  const pseudonym = pseudonymSchema.safeParse(named.pseudonym);
  if (!pseudonym.success) return { problem: `names a pseudonym that ${pseudonym.error.issues[0]!.message}` };
  const key = keyOf(found, consent);
  if (key === null)
    return { problem: 'has neither an id nor an identifier, so that it could not be known again' };
  const documentVersion = documentOf(consent);
  if (documentVersion === null) return { problem: 'does not say under which policy it was given' };
  const document = canonicalJson(withoutNames(found.resource));
  if (document.length > maxDocumentLength) return { problem: 'is longer than any consent form' };

  const signed = consent.dateTime === undefined ? null : momentOf(consent.dateTime, reading.zone);
  const purposes = new Map(
    purposesNamed(consent, reading).map((purpose) => [
      purpose,
      statementOn(purpose, consent, reading, signed),
    ]),
  );
  if ([...purposes.values()].some(({ permitted }) => permitted.length > maxIntervals)) {
    return { problem: `permits and denies in turns, more than ${maxIntervals} times` };
  }
  return {
    statement: {
      ...{ place: found.place, key, pseudonym: pseudonym.data, document, sha256: sha256(document) },
      ...{ signed, documentVersion, purposes },
      refusesEverything: refusesEverything(consent, reading.zone),
      barred: barredBy(consent),
      givenBy: givenByOf(
        consent.performer ?? [],
        consent.patient,
        reading.persons,
        containedPersons(consent),
      ),
      verifiedOn: verifiedOn(consent),
      unmapped: unmappedOf(consent, reading.options),
      hadNames: document !== canonicalJson(found.resource),
    },
  };
}

/** FHIR: who does not know a modifier must not use what it stands on. */
function hasUnknownModifier(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(
    ([name, inner]) =>
      name === 'modifierExtension' ||
      name === 'implicitRules' ||
      name === '_implicitRules' ||
      hasUnknownModifier(inner),
  );
}

const maxKeyLength = 200;

function keyOf({ resource }: FoundResource, { identifier, id }: FhirConsent): string | null {
  const first = identifier?.find(({ value }) => value !== undefined);
  const key =
    first === undefined
      ? id === undefined
        ? null
        : `Consent/${id}`
      : `${first.system ?? ''}|${first.value}`;
  if (key === null || key.length <= maxKeyLength) return key;
  return `${resource.resourceType} ${sha256(key)}`;
}

/** A canonical name of what was signed. */
function documentOf({ policy, policyRule }: FhirConsent): string | null {
  const named =
    policy?.find(({ uri }) => uri !== undefined)?.uri ??
    policy?.find(({ authority }) => authority !== undefined)?.authority;
  const coding = policyRule?.coding?.find(({ code }) => code !== undefined);
  const name = named ?? coding?.code ?? policyRule?.text;
  if (name === undefined || name.trim() === '') return null;
  return name.trim().length <= maxKeyLength ? name.trim() : sha256(name);
}

const codingsOf = (concept: FhirConcept | undefined) => concept?.coding ?? [];

const scopeSystem = 'http://terminology.hl7.org/CodeSystem/consentscope';

const isResearch = ({ scope }: Pick<FhirConsent, 'scope'>) =>
  codingsOf(scope).some(({ system, code }) => system === scopeSystem && code === 'research');

function barredBy({ status, scope, verification }: FhirConsent): string | null {
  if (status !== 'active') return `its status is "${status}"`;
  if (!isResearch({ scope })) return 'its scope is not research';
  if ((verification ?? []).some(({ verified }) => !verified)) return 'it says that it was not verified';
  return null;
}

function verifiedOn({ verification }: FhirConsent): string | null {
  const days = (verification ?? []).flatMap(({ verified, verificationDate }) =>
    verified && verificationDate !== undefined && verificationDate.length >= 10
      ? [verificationDate.slice(0, 10)]
      : [],
  );
  return days.sort().at(-1) ?? null;
}

/** What a provision without codes is about: the whole of the policy, the category or the rule. */
function wholeCodings({ category, policy, policyRule }: FhirConsent) {
  const policies = (policy ?? []).flatMap(({ uri }) => (uri === undefined ? [] : [{ code: uri }]));
  return [...(category ?? []).flatMap(codingsOf), ...codingsOf(policyRule), ...policies];
}

/** All purposes of the site, and those of Anneal's own that the consent names. */
function purposesNamed(consent: FhirConsent, { options, purposes }: Reading): string[] {
  const named = [...codingsIn(consent.provision), ...wholeCodings(consent)].flatMap((coding) =>
    purposesOf(coding, options),
  );
  const all = [...purposes, ...options.purposes.map(({ purpose }) => purpose), ...named];
  return [...new Set(all)].filter((purpose) => purpose !== everyPurpose);
}

function statementOn(
  purpose: string,
  consent: FhirConsent,
  { zone, options }: Reading,
  signed: Moment | null,
): PurposeStatement {
  const standsFor = (coding: FhirCoding) => purposesOf(coding, options).includes(purpose);
  const isWholePolicy = wholeCodings(consent).some(standsFor);
  const { permitted, refused } = answerOf(consent, { zone, matches: standsFor, isWholePolicy });
  // Nobody has consented before the consent was given.
  const since = between(signed?.latestStart ?? -Infinity, Infinity);
  return {
    permitted: barredBy(consent) === null ? intersection(permitted, since) : never,
    refused: refusedBy(consent, standsFor, refused, zone),
  };
}

/** What a refusal is, by the status; one that is over refuses no more, but in the way in which Anneal writes withdrawals. */
function refusedBy(consent: FhirConsent, standsFor: CodeMatch, refused: Instants, zone: string): Instants {
  if (!isResearch(consent)) return never;
  if (consent.status === 'active') return refused;
  if (consent.status === 'rejected') return isAbout(consent, standsFor) ? always : never;
  if (consent.status !== 'inactive') return never;
  const matches = (coding: FhirCoding) => coding.system === purposeSystem && standsFor(coding);
  return isAbout(consent, matches)
    ? answerOf(consent, { zone, matches, isWholePolicy: false }).refused
    : never;
}

const isAbout = ({ provision }: FhirConsent, matches: CodeMatch) => codingsIn(provision).some(matches);

/** Refused without a word about what, or from every purpose in Anneal's own words. */
function refusesEverything(consent: FhirConsent, zone: string): boolean {
  const isEvery = ({ system, code }: FhirCoding) => system === purposeSystem && code === everyPurpose;
  if (refusedBy(consent, isEvery, never, zone).length > 0) return true;
  return consent.status === 'rejected' && isResearch(consent) && codingsIn(consent.provision).length === 0;
}

function unmappedOf(consent: FhirConsent, options: FhirOptions): string[] {
  const unknown = codingsIn(consent.provision).filter(
    (coding) => coding.code !== undefined && purposesOf(coding, options).length === 0,
  );
  return [
    ...new Set(unknown.map(({ system, code }) => (system === undefined ? code! : `${system}|${code}`))),
  ];
}

function containedPersons({ contained }: FhirConsent): PersonIndex {
  return new Map(
    (contained ?? []).flatMap((inner) => {
      const person = personSchema.safeParse(inner);
      return person.success ? [[`#${inner.id}`, person.data] as const] : [];
    }),
  );
}

/** Patients and related persons among the resources, by each way in which a reference may call them. */
export function indexPersons(resources: readonly FoundResource[]): PersonIndex {
  return new Map(
    resources.flatMap(({ fullUrl, resource }) => {
      if (resource.resourceType !== 'Patient' && resource.resourceType !== 'RelatedPerson') return [];
      const person = personSchema.safeParse(resource);
      if (!person.success) return [];
      const { id, resourceType } = person.data;
      const names = [
        ...(fullUrl === null ? [] : [fullUrl]),
        ...(id === undefined ? [] : [`${resourceType}/${id}`]),
      ];
      return names.map((name) => [name, person.data] as const);
    }),
  );
}
