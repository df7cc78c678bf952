/** Whether the consents in a bundle are those that the trail recorded, and whether everybody in a cohort had one. */
import { z } from 'zod';
import { consentStatus } from '../consent/consent.ts';
import { hashJson } from '../shared/hash.ts';
import { plural } from '../shared/text.ts';
import { type BindingRow, breakBetween, consentActions } from '../store/consent-chain.ts';
import type { ConsentEventRecord } from '../store/records.ts';
import type { AuditEvidence, ConsentEvidence, SectionRow } from './bundle-format.ts';
import type { Bundle } from './read-bundle.ts';
import { type EvidenceCheck, failed, passed } from './report.ts';

const bindingActions: ReadonlySet<string> = new Set(Object.values(consentActions));

export const detailsOf = ({ details }: AuditEvidence): unknown =>
  details === null ? null : JSON.parse(details);

/** Rows of the trail that bind consents, as far as they are shown. */
const bindingsIn = ({ audit }: Bundle['rows']): BindingRow[] =>
  audit
    .filter(({ action, details }) => bindingActions.has(action) && details !== null)
    .map((row) => ({ seq: row.seq, action: row.action, details: detailsOf(row) }));

export function checkConsents({ rows }: Bundle): EvidenceCheck {
  for (const event of rows.consents) {
    if (event.hidden) continue;
    const { sha256, hidden: _hidden, ...content } = event;
    if (hashJson(content) !== sha256)
      return failed('consents', `Consent ${event.id} does not fit its hash: it was changed.`);
  }
  const unbound = consentsOfHiddenRows(rows);
  const list = rows.consents
    .filter(({ id }) => !unbound.has(id))
    .map(({ id, sha256 }) => ({ event: id, sha256 }));
  const broken = breakBetween(bindingsIn(rows), list);
  if (broken !== null) {
    const row = broken.seq === null ? 'no row of the audit trail' : `row ${broken.seq} of the audit trail`;
    return failed(
      'consents',
      broken.event === null
        ? `The consents of before version 7 are not those that ${row} lists.`
        : `Consent ${broken.event} and ${row} do not fit together: one was removed, added or changed.`,
    );
  }
  const hidden = rows.consents.filter((event) => event.hidden).length;
  const parts = [
    hidden === 0
      ? ''
      : ` Of ${hidden} the bundle leaves a document's number out, and compares the hash only.`,
    unbound.size === 0
      ? ''
      : ` ${plural(unbound.size, 'consent')} cannot be held against the trail, because what it says of them may name persons.`,
  ];
  return passed(
    'consents',
    `All ${list.length} consents are those that the audit trail recorded.${parts.join('')}`,
  );
}

/** Consents without a row that is shown, where there are as many rows that are not. */
function consentsOfHiddenRows(rows: Bundle['rows']): Set<number> {
  const bindings = bindingsIn(rows);
  const bound = bindings.find(({ action }) => action === consentActions.bound);
  const lastOld = boundListSchema.safeParse(bound?.details).data?.lastEvent ?? 0;
  const recorded = recordingSeqs(rows);
  const unbound = rows.consents.filter(({ id }) => id > lastOld && !recorded.has(id));
  const hidden = rows.audit.filter(
    ({ action, details, seq }) =>
      details === null &&
      (action === consentActions.grant || action === consentActions.withdraw) &&
      seq > (bound?.seq ?? 0),
  );
  return new Set(unbound.length <= hidden.length ? unbound.map(({ id }) => id) : []);
}

const frozenSchema = z.object({ runId: z.string(), round: z.int(), cohortSha256: z.string() });
const boundSchema = z.object({ event: z.int() });
const boundListSchema = z.object({ lastEvent: z.int() });

const keyOf = ({ runId, round, cohortSha256 }: z.infer<typeof frozenSchema>) =>
  `${runId} ${round} ${cohortSha256}`;

/** Each cohort stands in the trail when it was frozen, and everybody in it had consented by then. */
export function checkCohorts({ rows }: Bundle): EvidenceCheck {
  const frozen = new Map<string, number>();
  for (const row of rows.audit) {
    if (row.action !== 'cohort.frozen') continue;
    const details = frozenSchema.safeParse(detailsOf(row)).data;
    if (details !== undefined && !frozen.has(keyOf(details))) frozen.set(keyOf(details), row.seq);
  }
  const bySubject = Map.groupBy(rows.consents, ({ subject }) => subject);
  const seqs = recordingSeqs(rows);
  const named = new Set<string>();
  for (const cohort of rows.cohorts) {
    const key = keyOf({ ...cohort, cohortSha256: cohort.sha256 });
    const seq = frozen.get(key);
    named.add(key);
    const where = `of round ${cohort.round + 1} of run ${cohort.runId}`;
    if (seq === undefined) return failed('cohorts', `The cohort ${where} is not in the audit trail.`);
    const without = cohort.subjects.find(
      (subject) => !hadConsent(bySubject.get(subject) ?? [], cohort, seq, seqs),
    );
    if (without !== undefined)
      return failed(
        'cohorts',
        `In the cohort ${where} is somebody (${without.slice(0, 12)}…) without an active consent.`,
      );
  }
  if ([...frozen.keys()].some((key) => !named.has(key)))
    return failed('cohorts', 'The audit trail names a cohort that is not in the bundle.');
  return passed(
    'cohorts',
    `Everybody in the ${rows.cohorts.length} cohorts had an active consent to the purpose when the cohort was frozen.`,
  );
}

/** The row of the trail in which each consent was recorded; those of before version 7 were there before every row. */
function recordingSeqs(rows: Bundle['rows']): Map<number, number> {
  return new Map(
    bindingsIn(rows)
      .filter(({ action }) => action === consentActions.grant || action === consentActions.withdraw)
      .flatMap(({ seq, details }) => {
        const event = boundSchema.safeParse(details).data?.event;
        return event === undefined ? [] : [[event, seq] as const];
      }),
  );
}

/** By the order of the trail, not by the times in it: a clock may have been wrong. */
function hadConsent(
  events: readonly ConsentEvidence[],
  { purpose, frozenAt }: SectionRow<'cohorts'>,
  frozenSeq: number,
  seqs: ReadonlyMap<number, number>,
): boolean {
  const before = events
    .filter((event) => {
      const seq = seqs.get(event.id);
      return seq === undefined ? event.recordedAt <= frozenAt : seq < frozenSeq;
    })
    .map((event): ConsentEventRecord => {
      const { subject: _subject, hidden: _hidden, sha256: _sha256, ...said } = event;
      return { ...said, subjectId: 0, givenBy: null };
    });
  return consentStatus(before, purpose, frozenAt) === 'active';
}
