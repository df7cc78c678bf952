/** What the screens of a site see, read from its store. */
import { defaultPurpose } from '../config/consent-defaults.ts';
import { runConfigSchema } from '../config/run-config.ts';
import { consentedSubjects } from '../consent/cohort.ts';
import { consentsByPurpose, purposeOf } from '../consent/purposes.ts';
import { siteTimeZone } from '../consent/site-zone.ts';
import { summarise, withdrawalOf } from '../coordinator/run-view.ts';
import { AppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import type { ConsentEventRecord, SubjectSummary } from '../store/records.ts';
import { restoredNote } from '../store/restored.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { listDecisions, measuringLeaks, pendingCard } from './approval-card.ts';
import { consentOutlook } from './consent-notes.ts';
import type { AgentContext } from './context.ts';
import type { SetAsideRow, SiteOverview, SiteRequests, SubjectRow } from './contract.ts';

/** What the list is about first: the purpose of the run in progress. */
export const purposeInQuestion = (store: ReadOnlyStore): string =>
  runConfigSchema.pick({ purpose: true }).safeParse(store.runs.current()?.config).data?.purpose ??
  defaultPurpose;

const inQuestion = (store: ReadOnlyStore) => ({
  at: store.clock.latest(),
  zone: siteTimeZone(store),
  purpose: purposeInQuestion(store),
});

/** Subjects by pseudonym with their consents at this moment, or the latest time known. */
export function listSubjects(store: ReadOnlyStore, search: string): SubjectRow[] {
  const bySubject = Map.groupBy(store.consentEvents.all(), (event) => event.subjectId);
  const when = inQuestion(store);
  return store.subjects
    .list({ search })
    .map((subject) => toSubjectRow(subject, bySubject.get(subject.id) ?? [], when));
}

function toSubjectRow(
  subject: SubjectSummary,
  events: readonly ConsentEventRecord[],
  { purpose, ...when }: ReturnType<typeof inQuestion>,
): SubjectRow {
  const consents = consentsByPurpose(events, when);
  const own = consents.find((one) => one.purpose === purpose) ?? purposeOf(events, purpose, when);
  const term = own.term ?? own.next;
  return {
    ...pick(subject, 'pseudonym', 'images', 'labels'),
    consents,
    consent: own.status,
    purpose: own.status === 'none' ? null : purpose,
    documentVersion: term?.documentVersion ?? null,
    expiresAt: term?.until ?? null,
  };
}

/** @throws AppError SUBJECT_UNKNOWN */
export function subjectRow(store: ReadOnlyStore, pseudonym: string): SubjectRow {
  // As it is stored: an older version may have written it in another Unicode form.
  const stored = store.subjects.byPseudonym(pseudonym)?.pseudonym;
  const subject =
    stored === undefined
      ? undefined
      : store.subjects.list({ search: stored }).find((candidate) => candidate.pseudonym === stored);
  if (subject === undefined) throw new AppError('SUBJECT_UNKNOWN', 'No subject has this pseudonym.');
  return toSubjectRow(subject, store.consentEvents.ofSubject(subject.id), inQuestion(store));
}

export function listSetAside(store: ReadOnlyStore): SetAsideRow[] {
  return store.images.list({ status: 'set-aside' }).map((image) => ({
    sourceName: image.sourceName,
    pseudonym: image.pseudonym,
    reason: image.reason ?? '',
    kind: image.asideKind,
  }));
}

/** The request that waits, and what was said to earlier ones. */
export async function siteRequests(agent: AgentContext): Promise<SiteRequests> {
  const { store, site, catalogue } = agent;
  const federation = agent.status().federation ?? '';
  const pending =
    site === null
      ? null
      : await pendingCard({ store, catalogue, site, federation, measureLeak: measuringLeaks(agent) });
  return { pending, decisions: listDecisions(store) };
}

export async function siteOverview(agent: AgentContext): Promise<SiteOverview> {
  const { store, site } = agent;
  const images = store.images.counts();
  const subjects = store.subjects.list();
  const consented = consentedSubjects(store, purposeInQuestion(store), store.clock.latest());
  const consenting = subjects.filter(({ id }) => consented.has(id));
  const run = site?.manifest === null || site === null ? null : store.runs.get(site.manifest!.runId);
  const status = agent.status();
  return {
    siteId: site?.siteId ?? null,
    joinedAt: agent.joinedAt,
    images: {
      ready: images.reduce((sum, count) => sum + count.ready, 0),
      setAside: images.reduce((sum, count) => sum + count.setAside, 0),
      withConsent: consenting.reduce((sum, subject) => sum + subject.images, 0),
    },
    subjects: { total: subjects.length, withConsent: consenting.length },
    activity: site?.activity ?? 'not-joined',
    progress: site?.progress ?? null,
    notice: site?.notice ?? null,
    run: run === null ? null : summarise(run, withdrawalOf(store, run.id)),
    consents: consentOutlook(store, run),
    restored: restoredNote(store),
    contractSha256: run === null ? null : (store.contracts.pinsOf(run.id)?.sha256 ?? null),
    approval:
      site === null
        ? null
        : await pendingCard({
            ...{ store, catalogue: agent.catalogue, site, federation: status.federation ?? '' },
            measureLeak: measuringLeaks(agent),
          }),
  };
}
