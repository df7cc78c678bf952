/** What an installation can show for what it did, row by row, without anybody's pseudonym, file names or labels. */
import { hashJson } from '../shared/hash.ts';
import type { ConsentEventRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import type { ConsentEvidence, SectionName, SectionRow } from './bundle-format.ts';
import { createDisclosure, type Disclosure } from './disclosure.ts';

export type EvidenceRow = { [Name in SectionName]: { section: Name; row: SectionRow<Name> } }[SectionName];

const of = <Name extends SectionName>(section: Name, row: SectionRow<Name>) =>
  ({ section, row }) as EvidenceRow;

/** In the order of the bundle. Call it in one transaction, so that it is of one moment. */
export function* collectEvidence(store: ReadOnlyStore, role: 'site' | 'coordinator'): Generator<EvidenceRow> {
  const disclosure = createDisclosure(store);
  for (const row of store.audit.raw()) {
    const isShown = disclosure.mayShow(row.action, JSON.parse(row.details));
    yield of('audit', { ...row, details: isShown ? row.details : null });
  }
  yield* consents(store, disclosure);
  yield* cohorts(store);
  for (const { version, sha256, policy, actor, createdAt } of store.sitePolicies.list().reverse())
    yield of('policies', { version, sha256, policy, actor, createdAt });
  const runs = store.runs.list().reverse();
  for (const { id } of runs) {
    const contract = store.contracts.get(id);
    if (contract !== null) yield of('contracts', contract);
  }
  for (const { standing, reason: _freeText, ...decision } of store.decisions.list(-1).reverse())
    yield of('decisions', { ...decision, standingSha256: standing === null ? null : hashJson(standing) });
  for (const { id, status, config, createdAt, finishedAt } of runs)
    yield of('runs', { id, status, config, createdAt, finishedAt });
  for (const run of runs)
    for (const each of store.rounds.listOfRun(run.id)) {
      const { runId, round, startSha256, resultSha256, openedAt, closedAt } = each;
      yield of('rounds', { runId, round, startSha256, resultSha256, openedAt, closedAt });
    }
  for (const run of runs)
    for (const each of store.roundSites.listOfRun(run.id)) {
      const { runId, round, siteId, status, updateSha256, cohortSha256 } = each;
      yield of('updates', { runId, round, siteId, status, updateSha256, cohortSha256 });
    }
  for (const { sha256, runId, round, kind, siteId, createdAt } of store.adapters.list().reverse())
    yield of('models', { sha256, runId, round, kind, siteId, createdAt });
  for (const notice of store.withdrawalNotices.list()) yield of('notices', notice);
  if (role === 'site') return;
  for (const { id, name, publicKey, joinedAt, revokedAt } of store.sites.list())
    yield of('sites', { id, name, publicKey, joinedAt, revokedAt });
}

const refsOf = ({ subjects }: ReadOnlyStore) =>
  new Map(subjects.all().map(({ id, pseudonym }) => [id, subjects.refOf(pseudonym)]));

function* consents(store: ReadOnlyStore, { isHarmless }: Disclosure): Generator<EvidenceRow> {
  const refs = refsOf(store);
  for (const event of store.consentEvents.all()) {
    const content = consentContent(event, refs.get(event.subjectId)!);
    const texts = [content.documentVersion, content.recordedBy].filter((text) => text !== null);
    const hidden = content.reference !== null || !texts.every(isHarmless);
    const shown = texts.every(isHarmless) ? content : { ...content, documentVersion: null, recordedBy: '' };
    yield of('consents', { ...shown, reference: null, hidden, sha256: hashJson(content) });
  }
}

/** What the trail's hash of a consent is of (core/store/consent-chain.ts). */
function consentContent(
  event: ConsentEventRecord,
  subject: string,
): Omit<ConsentEvidence, 'hidden' | 'sha256'> {
  const { id, kind, purpose, documentVersion, validFrom, expiresAt, recordedAt, recordedBy } = event;
  const { givenBy, verifiedOn, reference, afterWithdrawal } = event;
  const terms = { id, kind, purpose, documentVersion, validFrom, expiresAt, recordedAt, recordedBy };
  return { ...terms, givenBy, verifiedOn, reference, afterWithdrawal, subject };
}

function* cohorts(store: ReadOnlyStore): Generator<EvidenceRow> {
  const refs = refsOf(store);
  for (const run of store.runs.list().reverse())
    for (const cohort of store.cohorts.byRun(run.id)) {
      const { id, runId, round, sha256, purpose, frozenAt, size, superseded } = cohort;
      const members = store.cohorts.members(id).map(({ subjectId }) => refs.get(subjectId)!);
      const subjects = [...new Set(members)].sort();
      yield of('cohorts', { runId, round, sha256, purpose, frozenAt, size, superseded, subjects });
    }
}
