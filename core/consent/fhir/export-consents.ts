/** Export of every subject's consents as FHIR R4. docs/fhir.md has the rules in words. */

import type { Consent, ConsentProvision } from '@medplum/fhirtypes';
import { z } from 'zod';
import { AppError } from '../../shared/errors.ts';
import { sha256 } from '../../shared/hash.ts';
import { jsonText } from '../../shared/text.ts';
import type { ConsentSourceRecord } from '../../store/consent-source-table.ts';
import type { ConsentEventRecord } from '../../store/records.ts';
import type { ReadOnlyStore } from '../../store/store.ts';
import { unnamedDocument } from '../apply-record.ts';
import { consentStatus, countingGrants, everyPurpose, grantInForce, lastWithdrawal } from '../consent.ts';
import { between, type Instants, union } from './intervals.ts';
import { fhirOptions, pseudonymSystem, purposeSystem } from './purpose-map.ts';
import { problemsOf } from './validate.ts';
import { writtenId, writtenSystem } from './written-id.ts';

export type FhirLayout = 'bundle' | 'ndjson';

export interface FhirExport {
  text: string;
  subjects: number;
  consents: number;
  /** Consents that are given back exactly as they were read. */
  asRead: number;
}

type Resource = Record<string, unknown>;
const resourceSchema = jsonText.pipe(z.record(z.string(), z.unknown()));

/**
 * Resources that were read are given back as they came, as long as nothing was recorded since that they do not tell;
 * everything else is written anew. The same store gives the same text.
 */
export function exportFhirConsents(store: ReadOnlyStore, layout: FhirLayout): FhirExport {
  const events = Map.groupBy(store.consentEvents.all(), ({ subjectId }) => subjectId);
  const sources = Map.groupBy(store.consentSources.all(), ({ subjectId }) => subjectId);
  const { identifierSystem } = fhirOptions(store);
  let asRead = 0;
  let subjects = 0;
  const resources: Resource[] = [];
  for (const { id, pseudonym } of store.subjects.all()) {
    const view: SubjectView = {
      pseudonym,
      identifierSystem,
      ref: store.subjects.refOf(pseudonym),
      events: events.get(id) ?? [],
      sources: sources.get(id) ?? [],
      now: store.clock.latest(),
    };
    const read = view.sources.filter((source) => isTold(source, view));
    const written = writtenAnew(view, read);
    if (read.length + written.length > 0) subjects++;
    asRead += read.length;
    resources.push(...read.map(({ document }) => resourceSchema.parse(document)), ...written);
  }
  for (const resource of resources) check(resource);
  const text = layout === 'ndjson' ? asLines(resources) : asBundle(resources);
  return { text, subjects, consents: resources.length, asRead };
}

interface SubjectView {
  pseudonym: string;
  identifierSystem: string | null;
  ref: string;
  /** In order of recording. */
  events: readonly ConsentEventRecord[];
  sources: readonly ConsentSourceRecord[];
  now: string;
}

/** Whether everything that happened since to the purposes of a resource came from resources, too. */
function isTold(source: ConsentSourceRecord, { events, sources }: SubjectView): boolean {
  const keys = new Set(sources.map(({ sourceKey }) => sourceKey));
  const purposes = Object.keys(source.grants);
  return !events.some(
    (event) =>
      event.id > source.upToEventId &&
      (event.purpose === everyPurpose || purposes.includes(event.purpose)) &&
      !keys.has(event.reference ?? ''),
  );
}

/** For each purpose whose state no resource that is given back tells. */
function writtenAnew(view: SubjectView, read: readonly ConsentSourceRecord[]): Resource[] {
  const { events } = view;
  const keys = new Set(read.map(({ sourceKey }) => sourceKey));
  const isNative = ({ reference }: ConsentEventRecord) => !keys.has(reference ?? '');
  const purposes = [...new Set(events.filter(isNative).map(({ purpose }) => purpose))].sort();
  const bare = purposes.filter((purpose) => purpose !== everyPurpose);
  const everyWithdrawal = purposes.includes(everyPurpose) ? lastWithdrawal(events, everyPurpose) : null;
  return [
    ...(everyWithdrawal === null ? [] : [withdrawnConsent(view, everyPurpose, everyWithdrawal)]),
    ...bare.flatMap((purpose) => {
      const grants = countingGrants(events, purpose);
      if (grants.length > 0) return [grantedConsent(view, purpose, grants)];
      const withdrawal = lastWithdrawal(events, purpose)!;
      return withdrawal.purpose === everyPurpose ? [] : [withdrawnConsent(view, purpose, withdrawal)];
    }),
  ];
}

function withdrawnConsent(view: SubjectView, purpose: string, withdrawal: ConsentEventRecord): Resource {
  return consentOf(view, purpose, withdrawal, {
    status: 'inactive',
    dateTime: withdrawal.validFrom,
    provision: { type: 'deny', ...codeOf(purpose) },
  });
}

function grantedConsent(view: SubjectView, purpose: string, grants: readonly ConsentEventRecord[]): Resource {
  const periods = activeInstants(view.events, purpose, grants);
  const shown = grantInForce(grants, view.now) ?? grants.at(-1)!;
  return consentOf(view, purpose, shown, {
    status: 'active',
    // The begin of the oldest that counts: nothing of it was given before.
    dateTime: new Date(Math.min(...grants.map(({ validFrom }) => Date.parse(validFrom)))).toISOString(),
    provision: {
      type: 'deny',
      provision: periods.map(({ start, end }) => ({
        type: 'permit',
        period: { start: iso(start), ...(end === Infinity ? {} : { end: iso(end - 1) }) },
        ...codeOf(purpose),
      })),
    },
  });
}

const iso = (ms: number) => new Date(ms).toISOString();

/** When the consent is active, by the clock alone: between the instants at which a grant begins or ends nothing changes. */
function activeInstants(
  events: readonly ConsentEventRecord[],
  purpose: string,
  grants: readonly ConsentEventRecord[],
): Instants {
  const bounds = grants.flatMap(({ validFrom, expiresAt }) =>
    expiresAt === null ? [validFrom] : [validFrom, expiresAt],
  );
  const sorted = [...new Set(bounds)].sort();
  return union(
    ...sorted.map((bound, index) => {
      if (consentStatus(events, purpose, bound) !== 'active') return [];
      const next = sorted[index + 1];
      return between(Date.parse(bound), next === undefined ? Infinity : Date.parse(next));
    }),
  );
}

const codeOf = (purpose: string) => ({ code: [{ coding: [{ system: purposeSystem, code: purpose }] }] });

/** One resource per subject and purpose, always called the same. */
function consentOf(
  { pseudonym, identifierSystem, ref }: SubjectView,
  purpose: string,
  { documentVersion, givenBy, verifiedOn }: ConsentEventRecord,
  said: { status: Consent['status']; dateTime: string; provision: ConsentProvision },
): Resource {
  const id = writtenId(ref, purpose);
  const patient = { identifier: { system: identifierSystem ?? pseudonymSystem, value: pseudonym } };
  const consent: Consent = {
    resourceType: 'Consent',
    id,
    identifier: [{ system: writtenSystem, value: id }],
    status: said.status,
    scope: {
      coding: [{ system: 'http://terminology.hl7.org/CodeSystem/consentscope', code: 'research' }],
    },
    category: [{ coding: [{ system: 'http://loinc.org', code: '57016-8' }] }],
    patient,
    dateTime: said.dateTime,
    ...performerOf(givenBy, patient),
    policyRule: { text: documentVersion ?? unnamedDocument },
    ...(verifiedOn === null ? {} : { verification: [{ verified: true, verificationDate: verifiedOn }] }),
    provision: said.provision,
  };
  return { ...consent };
}

function performerOf(
  givenBy: ConsentEventRecord['givenBy'],
  patient: NonNullable<Consent['patient']>,
): Pick<Consent, 'contained' | 'performer'> {
  if (givenBy === null) return {};
  if (givenBy === 'subject') return { performer: [{ type: 'Patient', ...patient }] };
  const code = givenBy === 'guardian' ? 'GUARD' : 'POWATT';
  const system = 'http://terminology.hl7.org/CodeSystem/v3-RoleCode';
  return {
    contained: [
      {
        resourceType: 'RelatedPerson',
        id: 'signer',
        patient,
        relationship: [{ coding: [{ system, code }] }],
      },
    ],
    performer: [{ reference: '#signer' }],
  };
}

/** What Anneal hands out is valid, or it does not hand it out. */
function check(resource: Resource): void {
  const problems = problemsOf(resource);
  if (problems.length > 0) {
    throw new AppError('INTERNAL', 'A consent could not be written as valid FHIR.', {
      cause: new Error(problems.join('; ')),
    });
  }
}

const asLines = (resources: readonly Resource[]) =>
  resources.map((resource) => `${JSON.stringify(resource)}\n`).join('');

function asBundle(resources: readonly Resource[]): string {
  const entry = resources.map((resource, index) => ({ fullUrl: urnOf(resource, index), resource }));
  const bundle = { resourceType: 'Bundle', type: 'collection', ...(entry.length > 0 ? { entry } : {}) };
  return `${JSON.stringify(bundle, null, 2)}\n`;
}

/** A UUID made of the content (RFC 9562, version 8), for an entry must be called something. */
function urnOf(resource: Resource, index: number): string {
  const hash = sha256(`${index}\n${JSON.stringify(resource)}`);
  const variant = ((Number.parseInt(hash[16]!, 16) & 0x3) | 0x8).toString(16);
  return `urn:uuid:${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-${variant}${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}
