/** What the screens of a site see, read from its store. */
import { consentStatus } from '../consent/consent.ts';
import { summarise, withdrawalOf } from '../coordinator/run-view.ts';
import { AppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import type { ConsentEventRecord, SubjectSummary } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { listDecisions, measuringLeaks, pendingCard } from './approval-card.ts';
import type { AgentContext } from './context.ts';
import type { SetAsideRow, SiteOverview, SiteRequests, SubjectRow } from './contract.ts';

/** The purpose that this version of Anneal trains for. */
const trainingPurpose = 'federated-training';

function toSubjectRow(
  subject: SubjectSummary,
  events: readonly ConsentEventRecord[],
  at: string,
): SubjectRow {
  const grant = events.filter((event) => event.kind === 'grant' && event.purpose === trainingPurpose).at(-1);
  return {
    ...pick(subject, 'pseudonym', 'images', 'labels'),
    consent: consentStatus(events, trainingPurpose, at),
    purpose: grant?.purpose ?? null,
    documentVersion: grant?.documentVersion ?? null,
    expiresAt: grant?.expiresAt ?? null,
  };
}

function groupBySubject(events: readonly ConsentEventRecord[]): Map<number, ConsentEventRecord[]> {
  return Map.groupBy(events, (event) => event.subjectId);
}

/** Subjects by pseudonym with their consent at this moment. */
export function listSubjects(store: ReadOnlyStore, search: string): SubjectRow[] {
  const events = groupBySubject(store.consentEvents.all());
  const at = new Date().toISOString();
  return store.subjects
    .list({ search })
    .map((subject) => toSubjectRow(subject, events.get(subject.id) ?? [], at));
}

/** @throws AppError SUBJECT_UNKNOWN */
export function subjectRow(store: ReadOnlyStore, pseudonym: string): SubjectRow {
  const row = listSubjects(store, pseudonym).find((candidate) => candidate.pseudonym === pseudonym);
  if (row === undefined) throw new AppError('SUBJECT_UNKNOWN', 'No subject has this pseudonym.');
  return row;
}

export function listSetAside(store: ReadOnlyStore): SetAsideRow[] {
  return store.images.list({ status: 'set-aside' }).map((image) => ({
    sourceName: image.sourceName,
    pseudonym: image.pseudonym,
    reason: image.reason ?? '',
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
  const subjects = listSubjects(store, '');
  const consenting = subjects.filter((subject) => subject.consent === 'active');
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
