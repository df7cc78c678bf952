/** Import of a file of FHIR R4 Consents. docs/fhir.md has the rules in words. */
import { setImmediate } from 'node:timers/promises';
import { AppError } from '../../shared/errors.ts';
import { sha256 } from '../../shared/hash.ts';
import type { Store } from '../../store/store.ts';
import type { ConsentOutcome } from '../apply-record.ts';
import { everyPurpose } from '../consent.ts';
import { siteTimeZone } from '../site-zone.ts';
import { type Applying, type GivenGrants, give, situationOf, takeAway } from './apply-statement.ts';
import { type ConsentStatement, indexPersons, interpretConsent } from './interpret.ts';
import { changedOptions, type FhirChanges, fhirOptions, rememberOptions } from './purpose-map.ts';
import { type FhirFile, type PlaceProblem, readFhirResources } from './read-resources.ts';
import { writtenId, writtenSystem } from './written-id.ts';

/** What an import tells the person who started it. Subjects by their pseudonyms, each once. */
export interface FhirImportReport {
  layout: FhirFile['layout'];
  /** Consents in the file, and resources of other types. */
  consents: number;
  otherResources: number;
  /** The file is one page of several. */
  isPartOfMore: boolean;
  /** With a new or changed grant. */
  recorded: string[];
  /** Of these: given after a withdrawal. */
  reconsented: string[];
  withdrawn: string[];
  /** A withdrawal stands against what the file says. */
  stillWithdrawn: string[];
  /** Consents that change nothing: known, or older than what is recorded. */
  unchanged: number;
  /** There are no such subjects here, and none were made. */
  unknown: string[];
  /** Consents that gave no grant, and why. */
  notUsed: { place: string; subject: string; reason: string }[];
  /** Codes that stand for no purpose of this site, with how many consents hold them. */
  unmapped: { code: string; consents: number }[];
  /** Consents in which names were left out. */
  withoutNames: number;
  problems: PlaceProblem[];
  /** Consents whose grants were not recorded because of the problems. */
  heldBack: number;
}

export interface FhirImportOptions {
  recordedBy: string;
  /** Remembered for the next import. */
  changes?: FhirChanges | undefined;
  /** Records nothing. */
  isPreview?: boolean | undefined;
}

/**
 * Records what the Consents of a file say about subjects that are known. Withdrawals that are clear are recorded in any
 * case; grants only when the whole file is understood.
 * @param bytes Bundle JSON, NDJSON, or one resource
 * @throws AppError FHIR_INVALID; the store is unchanged then
 */
export function importFhirConsents(
  store: Store,
  bytes: Uint8Array,
  options: FhirImportOptions,
): FhirImportReport {
  const steps = importInSteps(store, bytes, options);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

const longestTurnMs = 20;

/** As {@link importFhirConsents}, and whatever else the process does goes on while the consents are understood. */
export async function importFhirConsentsInTurns(
  store: Store,
  bytes: Uint8Array,
  options: FhirImportOptions,
): Promise<FhirImportReport> {
  const steps = importInSteps(store, bytes, options);
  let begun = performance.now();
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (performance.now() - begun < longestTurnMs) continue;
    await setImmediate();
    begun = performance.now();
  }
}

function* importInSteps(
  store: Store,
  bytes: Uint8Array,
  { changes, recordedBy, isPreview = false }: FhirImportOptions,
): Generator<void, FhirImportReport> {
  const file = readFhirResources(bytes);
  const consents = file.resources.filter(({ resource }) => resource.resourceType === 'Consent');
  if (consents.length > maxConsents) {
    throw new AppError('FHIR_INVALID', `The file holds more than ${maxConsents} consents.`, {
      action: 'Divide it into several files and import them one after the other.',
    });
  }
  const options = changedOptions(fhirOptions(store), changes ?? {});
  const reading = {
    zone: siteTimeZone(store),
    options,
    persons: indexPersons(file.resources),
    purposes: [...new Set(store.consentEvents.all().map(({ purpose }) => purpose))],
  };
  const problems: { place: string; problem: string }[] = [];
  const statements: ConsentStatement[] = [];
  for (const found of consents) {
    const read = interpretConsent(found, reading);
    if ('statement' in read) statements.push(read.statement);
    else problems.push({ place: found.place, problem: read.problem });
    yield;
  }
  const record = () =>
    store.transaction(() => {
      const tally = createTally(file, consents.length);
      for (const { place, problem } of problems) tally.problem(place, problem);
      if (changes !== undefined) rememberOptions(store, options);
      apply({ store, recordedBy }, statements, tally);
      const report = tally.report();
      if (isPreview) throw new Undone(report);
      appendAudit(store, recordedBy, sha256(bytes), report);
      return report;
    });
  try {
    return store.withReserve(record);
  } catch (error) {
    if (error instanceof Undone) return error.report;
    throw error;
  }
}

/** They are recorded in one transaction, for which the process stands still. */
const maxConsents = 20_000;

/** Ends a transaction with nothing kept. */
class Undone extends Error {
  readonly report: FhirImportReport;
  constructor(report: FhirImportReport) {
    super('preview');
    this.report = report;
  }
}

function appendAudit(store: Store, actor: string, fileSha256: string, report: FhirImportReport): void {
  const details = {
    format: 'fhir-r4',
    fileSha256,
    consents: report.consents,
    problems: report.problems.length,
    heldBack: report.heldBack,
    recorded: report.recorded.map(store.subjects.refOf),
    withdrawn: report.withdrawn.map(store.subjects.refOf),
  };
  store.audit.append({ actor, action: 'consent.import', details });
}

type Tally = ReturnType<typeof createTally>;

function apply(applying: Applying, statements: readonly ConsentStatement[], tally: Tally): void {
  const { store } = applying;
  const known = oncePerKey(statements, tally).filter((statement) => {
    const situation = situationOf(store, statement);
    if (situation === null) tally.unknown(statement);
    else if (situation.source !== null && situation.source.subjectId !== situation.subjectId) {
      tally.problem(statement.place, 'is known here as the consent of another subject');
      return false;
    }
    return situation !== null;
  });
  // In the order in which they were given, so that the newest word is the last; first whatever takes away.
  known.sort((a, b) => (a.signed?.earliest ?? -Infinity) - (b.signed?.earliest ?? -Infinity));
  const taking = new Set(known.filter((statement) => takeAway(applying, statement)));
  for (const statement of taking) tally.withdrawn(statement);
  const isHeldBack = tally.hasProblems();
  for (const statement of known) {
    const isGiving = [...statement.purposes.values()].some(({ permitted }) => permitted.length > 0);
    if (isGiving && isHeldBack) {
      tally.heldBack();
      continue;
    }
    const given = give(applying, statement);
    keepSource(store, statement, given);
    tally.given(statement, given, taking.has(statement));
  }
}

/** The same resource may come twice, for instance on two pages; with two contents nobody knows which one holds. */
function oncePerKey(statements: readonly ConsentStatement[], tally: Tally): ConsentStatement[] {
  return [...Map.groupBy(statements, ({ key }) => key).values()].flatMap((same) => {
    const [first, ...others] = same;
    const another = others.find(({ sha256: hash }) => hash !== first!.sha256);
    if (another === undefined) return [first!];
    tally.problem(another.place, `has the same identifier as ${first!.place}, and another content`);
    // Of both the refusals are heard; grants are held back by the problem.
    return same;
  });
}

function keepSource(store: Store, statement: ConsentStatement, { grants }: GivenGrants): void {
  // What this store wrote itself it writes again from what it knows.
  const ref = store.subjects.refOf(statement.pseudonym);
  const purposes = [everyPurpose, ...statement.purposes.keys()];
  if (purposes.some((purpose) => statement.key === `${writtenSystem}|${writtenId(ref, purpose)}`)) return;
  const { subjectId, source, events } = situationOf(store, statement)!;
  store.consentSources.put({
    subjectId,
    format: 'fhir-r4',
    sourceKey: statement.key,
    sha256: statement.sha256,
    document: statement.document,
    givenAt: statement.signed === null ? null : new Date(statement.signed.earliest).toISOString(),
    firstReadAt: source?.firstReadAt ?? store.clock.latest(),
    grants,
    upToEventId: events.at(-1)?.id ?? 0,
  });
}

function createTally(file: FhirFile, consents: number) {
  const subjects = {
    recorded: new Set<string>(),
    reconsented: new Set<string>(),
    withdrawn: new Set<string>(),
    stillWithdrawn: new Set<string>(),
    unknown: new Set<string>(),
  };
  const problems = [...file.problems];
  const notUsed: FhirImportReport['notUsed'] = [];
  const unmapped = new Map<string, number>();
  const counts = { unchanged: 0, withoutNames: 0, heldBack: 0 };

  function lists(): Record<keyof typeof subjects, string[]> {
    const entries = Object.entries(subjects).map(([name, set]) => [name, [...set].sort()]);
    return Object.fromEntries(entries);
  }

  return {
    problem: (place: string, message: string) => void problems.push({ place, message }),
    hasProblems: () => problems.length > 0,
    unknown: ({ pseudonym }: ConsentStatement) => void subjects.unknown.add(pseudonym),
    withdrawn: ({ pseudonym }: ConsentStatement) => void subjects.withdrawn.add(pseudonym),
    heldBack: () => void counts.heldBack++,
    given(statement: ConsentStatement, { outcomes }: GivenGrants, hasTaken: boolean): void {
      const { pseudonym, place, barred } = statement;
      const has = (outcome: ConsentOutcome) => outcomes.includes(outcome);
      if (has('recorded') || has('reconsented')) subjects.recorded.add(pseudonym);
      if (has('reconsented')) subjects.reconsented.add(pseudonym);
      if (has('still-withdrawn')) subjects.stillWithdrawn.add(pseudonym);
      if (outcomes.length > 0 && outcomes.every((outcome) => outcome === 'known') && !hasTaken)
        counts.unchanged++;
      if (outcomes.length === 0) {
        const reason = barred ?? 'no provision of it permits a purpose of this site at any time';
        notUsed.push({ place, subject: pseudonym, reason });
      }
      if (statement.hadNames) counts.withoutNames++;
      for (const code of statement.unmapped) unmapped.set(code, (unmapped.get(code) ?? 0) + 1);
    },
    report: (): FhirImportReport => ({
      ...{ layout: file.layout, isPartOfMore: file.isPartOfMore, consents },
      otherResources: file.resources.length - consents,
      ...lists(),
      ...counts,
      ...{ notUsed, problems },
      unmapped: [...unmapped].map(([code, count]) => ({ code, consents: count })),
    }),
  };
}
