/** Whether policies, contracts, decisions and contributions in a bundle are those of the trail, and follow from each other. */
import { z } from 'zod';
import { hashJson } from '../shared/hash.ts';
import { plural } from '../shared/text.ts';
import { sections } from './bundle-format.ts';
import { detailsOf } from './check-consents.ts';
import type { Bundle } from './read-bundle.ts';
import { type EvidenceCheck, failed, passed } from './report.ts';

const policySchema = z.object({ version: z.int(), sha256: z.string() });
const decisionSchema = z.object({ decision: z.int(), runId: z.string(), contract: z.string() });
const announcedSchema = z.object({
  runId: z.string(),
  round: z.int(),
  update: z.string(),
  cohort: z.string(),
});
const closedSchema = z.object({ runId: z.string(), round: z.int(), result: z.string() });
const askedBySchema = z.object({ askedBy: z.object({ coordinatorKey: z.string() }) });

/** Rows of an action, as far as they are shown and can be read, with what they say. */
function said<T>(
  { audit }: Bundle['rows'],
  action: string,
  schema: z.ZodType<T>,
): { seq: number; details: T }[] {
  return audit.flatMap((row) => {
    const details = row.action === action ? schema.safeParse(detailsOf(row)).data : undefined;
    return details === undefined ? [] : [{ seq: row.seq, details }];
  });
}

export function checkPolicies({ rows }: Bundle): EvidenceCheck {
  const recorded = new Map(
    said(rows, 'site-policy-set', policySchema).map(({ details }) => [details.version, details.sha256]),
  );
  for (const { version, policy, sha256 } of rows.policies) {
    if (hashJson(policy) !== sha256)
      return failed('policies', `Version ${version} of the policy does not fit its hash.`);
    if (recorded.get(version) !== sha256)
      return failed(
        'policies',
        `Version ${version} of the policy is not the one that the audit trail recorded.`,
      );
  }
  if (recorded.size !== rows.policies.length)
    return failed('policies', 'The audit trail names a version of the policy that is not in the bundle.');
  return passed(
    'policies',
    `${plural(rows.policies.length, 'version')} of the site policy, each as the audit trail recorded it.`,
  );
}

export function checkContracts({ rows, header }: Bundle): EvidenceCheck {
  for (const { runId, document, sha256 } of rows.contracts) {
    if (hashJson(document) !== sha256)
      return failed('contracts', `The contract of run ${runId} does not fit its hash.`);
    if (askedBySchema.safeParse(document).data?.askedBy.coordinatorKey !== header.coordinatorKey)
      return failed('contracts', `The contract of run ${runId} is with another coordinator.`);
  }
  return passed(
    'contracts',
    `${plural(rows.contracts.length, 'contract')}, each with the hash that was decided about.`,
  );
}

export function checkDecisions({ rows }: Bundle): EvidenceCheck {
  for (const { id, kind, runId, contractSha256 } of rows.decisions) {
    const action = `run-${kind}`;
    const found = said(rows, action, decisionSchema).some(
      ({ details }) =>
        details.decision === id && details.runId === runId && details.contract === contractSha256,
    );
    // Why somebody declined is free text, so that the row may not be shown.
    const mayBeHidden = rows.audit.some((row) => row.action === action && row.details === null);
    if (!found && !mayBeHidden)
      return failed('decisions', `Decision ${id} is not the one that the audit trail recorded.`);
  }
  const known = new Set(rows.decisions.map(({ id }) => id));
  for (const kind of sections.decisions.shape.kind.options)
    if (said(rows, `run-${kind}`, decisionSchema).some(({ details }) => !known.has(details.decision)))
      return failed('decisions', 'The audit trail names a decision that is not in the bundle.');
  return passed(
    'decisions',
    `${plural(rows.decisions.length, 'decision')} about runs, each as the audit trail recorded it.`,
  );
}

/** What left the site: each update was announced with the cohort behind it, in a run that was approved before. */
export function checkContributions({ rows, header }: Bundle): EvidenceCheck {
  return header.role === 'site' ? checkAnnouncements(rows) : checkResults(rows);
}

function checkAnnouncements(rows: Bundle['rows']): EvidenceCheck {
  const announced = said(rows, 'update-announced', announcedSchema);
  const byUpdate = new Map(
    announced.map(({ details }) => [`${details.runId} ${details.round} ${details.update}`, details]),
  );
  const cohorts = new Set(rows.cohorts.map(({ runId, round, sha256 }) => `${runId} ${round} ${sha256}`));
  for (const { runId, round, updateSha256, cohortSha256 } of rows.updates) {
    if (updateSha256 === null || cohortSha256 === null) continue;
    const row = byUpdate.get(`${runId} ${round} ${updateSha256}`);
    const where = `of round ${round + 1} of run ${runId}`;
    if (row?.cohort !== cohortSha256)
      return failed('contributions', `The update ${where} is not the one that the audit trail recorded.`);
    if (!cohorts.has(`${runId} ${round} ${cohortSha256}`))
      return failed('contributions', `The cohort behind the update ${where} is not in the bundle.`);
  }
  const approvals = ['run-approved', 'run-covered'].flatMap((action) => said(rows, action, decisionSchema));
  const contracts = new Map(rows.contracts.map(({ runId, sha256 }) => [runId, sha256]));
  for (const { seq, details } of announced) {
    const contract = contracts.get(details.runId);
    if (contract === undefined) continue;
    const isApproved = approvals.some(
      (row) => row.seq < seq && row.details.runId === details.runId && row.details.contract === contract,
    );
    if (!isApproved)
      return failed(
        'contributions',
        `An update left in run ${details.runId}, which nobody had approved by then.`,
      );
  }
  return passed(
    'contributions',
    `${plural(announced.length, 'update')} left this site, each in a run whose contract was approved before, and with the hash of the cohort behind it.`,
  );
}

function checkResults(rows: Bundle['rows']): EvidenceCheck {
  const closed = said(rows, 'round-closed', closedSchema);
  const results = new Map(closed.map(({ details }) => [`${details.runId} ${details.round}`, details.result]));
  for (const { runId, round, resultSha256 } of rows.rounds)
    if (resultSha256 !== null && results.get(`${runId} ${round}`) !== resultSha256)
      return failed(
        'contributions',
        `The result of round ${round + 1} of run ${runId} is not the one that the audit trail recorded.`,
      );
  return passed(
    'contributions',
    `${plural(closed.length, 'round')} closed, each with the result that the audit trail recorded.`,
  );
}
