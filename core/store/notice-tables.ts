/** Withdrawals that concern models: what a site owes its coordinator, and what a coordinator was told. */
import { z } from 'zod';
import {
  type ContributionRecord,
  contributionRecord,
  roundSiteRecord,
  type WithdrawalNoticeRecord,
  withdrawalNoticeRecord,
} from './records.ts';
import { type Defaulted, insertSql, isOfSubject, rowsOf, subjectsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

/** By round: updates that were announced, of images of somebody who withdrew from their purpose afterwards, or was erased. */
const withdrawnContributions = `SELECT DISTINCT made.run_id AS runId, made.round, made.site_id AS siteId,
    made.update_sha256 AS updateSha256,
    row.status = 'received' AND row.update_sha256 = made.update_sha256 AS received
  FROM announced_contributions AS made
    JOIN cohorts ON cohorts.run_id = made.run_id AND cohorts.round = made.round AND cohorts.sha256 = made.cohort_sha256
    JOIN round_sites AS row ON row.run_id = made.run_id AND row.round = made.round AND row.site_id = made.site_id
  WHERE EXISTS (
      SELECT 1 FROM cohort_members AS member JOIN consent_events AS event ON event.subject_id IN ${subjectsOf('member')}
      WHERE member.cohort_id = cohorts.id AND event.kind = 'withdraw' AND event.purpose IN ('*', cohorts.purpose)
        AND event.recorded_at >= cohorts.frozen_at)
    -- Somebody was erased.
    OR cohorts.size > (SELECT count(*) FROM cohort_members AS member WHERE member.cohort_id = cohorts.id)
  ORDER BY made.run_id, made.site_id, made.round`;

const contributionRow = withdrawalNoticeRecord
  .omit({ notedOn: true })
  .extend({ received: z.union([z.literal(0), z.literal(1)]) });

/** Where it is still the update of its site for the round: what became of it, and when. */
const madeOfRow = contributionRecord.extend({
  status: roundSiteRecord.shape.status.nullable(),
  updatedAt: z.string().nullable(),
});
const madeOfSubject = `SELECT made.run_id AS runId, made.round, made.site_id AS siteId, made.update_sha256 AS updateSha256,
    made.cohort_sha256 AS cohortSha256, made.size_bytes AS sizeBytes, made.announced_at AS announcedAt,
    row.status, row.updated_at AS updatedAt
  FROM announced_contributions AS made
    LEFT JOIN round_sites AS row ON row.run_id = made.run_id AND row.round = made.round AND row.site_id = made.site_id
      AND row.update_sha256 = made.update_sha256
  WHERE EXISTS (SELECT 1 FROM cohorts JOIN cohort_members ON cohort_id = cohorts.id
    WHERE cohorts.run_id = made.run_id AND cohorts.round = made.round AND cohorts.sha256 = made.cohort_sha256 AND ${isOfSubject})
  ORDER BY made.announced_at, made.rowid`;

const markedRow = z.object({ runId: z.string(), round: z.int(), siteId: z.string() });
/** The updates that were told of and are in the result of their round. */
const inModels = `SELECT notice.run_id AS runId, notice.round, notice.site_id AS siteId FROM withdrawal_notices AS notice
  JOIN round_sites AS row ON row.run_id = notice.run_id AND row.round = notice.round
    AND row.site_id = notice.site_id AND row.update_sha256 = notice.update_sha256
  WHERE row.status = 'received' ORDER BY notice.run_id, notice.round, notice.site_id`;

type Contribution = Omit<WithdrawalNoticeRecord, 'notedOn'>;

export function createWithdrawalNotices(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'withdrawal_notices', withdrawalNoticeRecord);
  const insert = `${insertSql('withdrawal_notices', [...rows.keys, 'told'])} ON CONFLICT DO NOTHING`;
  const contributions = rowsOf(db, 'announced_contributions', contributionRecord);
  const announced = contributions.keys;
  const keepAnnounced = `${insertSql('announced_contributions', announced)} ON CONFLICT DO NOTHING`;
  const today = () => now().slice(0, 10);
  const ofSite = 'WHERE run_id = @runId AND round = @round AND site_id = @siteId';
  return {
    /** By run and round. */
    list: () => rows.all('ORDER BY run_id, round, site_id, update_sha256'),
    ofSite: (runId: string, round: number, siteId: string) => rows.all(ofSite, { runId, round, siteId }),
    /** Where updates that were told of are in the result of their round. By run and round. */
    inModels: () => db.all(markedRow, inModels),
    /** Site: call it in the transaction that announces an update. */
    keepAnnounced(made: Defaulted<ContributionRecord, 'announcedAt'>): void {
      db.run(keepAnnounced, { ...made, announcedAt: made.announcedAt ?? now() });
    },
    /** Site: every update that was announced, by time; also those that were taken back. */
    contributions: () => contributions.all('ORDER BY announced_at, rowid'),
    /**
     * Site: every update that was announced and made of images that were or now are this subject's, by time; also those that
     * were taken back. `status` is null where the site has announced another one for the round since.
     */
    contributionsOf: (subjectId: number) => db.all(madeOfRow, madeOfSubject, { subjectId }),
    /**
     * Site: writes down what the coordinator has to be told, once. Follows from the tables alone, so that it can be asked at any
     * time and after a crash; who deletes consents or cohorts of a subject asks before, in the same transaction. Of a run the
     * contributions up to the first that is known to have been taken: all later ones build upon it.
     */
    noteOwed(): void {
      const settled = new Set<string>();
      for (const { received, ...made } of db.all(contributionRow, withdrawnContributions)) {
        const run = `${made.siteId} ${made.runId}`;
        if (settled.has(run)) continue;
        if (received === 1) settled.add(run);
        db.run(insert, { ...made, notedOn: today(), told: 0 });
      }
    },
    /** Site: what is not in the outbox yet. */
    untold: () => rows.all('WHERE told = 0 ORDER BY run_id, round'),
    /** Call it in the transaction that puts the message into the outbox. */
    markTold(notice: Contribution): void {
      const { runId, round, siteId, updateSha256 } = notice;
      const sql = `UPDATE withdrawal_notices SET told = 1 ${ofSite} AND update_sha256 = @updateSha256`;
      db.run(sql, { runId, round, siteId, updateSha256 });
    },
    /** Coordinator: repeating it changes nothing. @returns whether it is new */
    add: (notice: Contribution): boolean =>
      db.run(insert, { ...notice, notedOn: today(), told: 1 }).changes === 1,
  };
}
