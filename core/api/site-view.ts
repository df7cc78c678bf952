/** What the screens of a site see, read from its store. */
import type { RunConfig } from '../config/run-config.ts';
import { describeSettings } from '../config/run-config.ts';
import { consentStatus } from '../consent/consent.ts';
import { summarise } from '../coordinator/run-view.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { Catalogue } from '../models/catalogue.ts';
import { AppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import type { SiteNode } from '../site/site.ts';
import { whatLeaves } from '../site/what-leaves.ts';
import type { ConsentEventRecord, SubjectSummary } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { planRun } from '../strategy/plan.ts';
import type { AgentContext } from './context.ts';
import type { ApprovalCard, SetAsideRow, SiteOverview, SubjectRow } from './contract.ts';

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

async function loadIfHeld(
  catalogue: Catalogue,
  { baseId, baseSha256 }: RunConfig,
): Promise<BaseModel | null> {
  try {
    return await catalogue.load(await catalogue.resolve(baseId, baseSha256));
  } catch (error) {
    if (error instanceof AppError && error.code === 'MODEL_UNKNOWN') return null;
    throw error;
  }
}

/** Everything a person should know before this site trains for the first time. */
async function approvalCard(
  site: SiteNode,
  federation: string,
  catalogue: Catalogue,
): Promise<ApprovalCard | null> {
  const { manifest, siteName } = site;
  if (manifest === null || site.activity !== 'approval-needed') return null;
  const { config } = manifest;
  const base = await loadIfHeld(catalogue, config);
  // The site's problem says what to import first.
  if (base === null) return null;
  const { plan } = planRun(config, base, 1);
  const first = plan[0]!;
  const last = plan.at(-1)!;
  const { tensors, leaves, stays } = whatLeaves(config, base, siteName);
  return {
    runId: manifest.runId,
    askedBy: federation,
    tensors,
    rank: { first: first.rank, last: last.rank },
    bytesPerRound: { first: first.bytesPerSite, last: last.bytesPerSite },
    rounds: config.rounds,
    leaves,
    stays,
    settings: describeSettings(config),
  };
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
    run: run === null ? null : summarise(run),
    approval: site === null ? null : await approvalCard(site, status.federation ?? '', agent.catalogue),
  };
}
