/** What the checks look at: every store, read-only, and what the schedule did and saw. */
import { join } from 'node:path';
import type { z } from 'zod';
import { contributionRecord } from '../../../core/store/records.ts';
import { openSqlite, type Sqlite } from '../../../core/store/sqlite.ts';
import { openReadOnlyStore, type ReadOnlyStore } from '../../../core/store/store.ts';
import type { Mishap } from '../agent.ts';
import type { ConsentEntry, FlipEntry, RestoreEntry, Wait, World } from '../faults/index.ts';
import type { Fault, Member } from '../schedule.ts';

export interface Violation {
  /** Which of the promises of docs/reliability.md. */
  invariant: string;
  what: string;
}

/** A fault as it came, in ms since the epoch. */
export interface Inflicted {
  fault: Fault;
  beganAt: number;
  endedAt: number;
}

export interface OpenMember {
  member: Member;
  dataFolder: string;
  store: ReadOnlyStore;
  db: Sqlite;
}

export interface OpenSite extends OpenMember {
  siteId: string;
  name: string;
}

export interface Evidence extends Disposable {
  coordinator: OpenMember;
  sites: OpenSite[];
  rounds: number;
  quorum: number;
  /** Runs that began in this episode, oldest first. */
  runIds: readonly string[];
  /** When each of them was first seen, ms since the epoch. */
  seenAt: ReadonlyMap<string, number>;
  inflicted: readonly Inflicted[];
  /** Of this episode. */
  restores: readonly RestoreEntry[];
  flips: readonly FlipEntry[];
  waits: readonly Wait[];
  consents: readonly ConsentEntry[];
  mishaps: readonly Mishap[];
  /** What still waited when the patience was over: a run, a site that did not come back, a person's answer. Null: nothing. */
  unsettled: string | null;
  /** Largest resident size of each process so far, bytes. */
  residentBytes: ReadonlyMap<string, number>;
  /** What went back in time in this episode: its rows say less than it did. */
  restored: ReadonlySet<Member>;
  /** In this one or an earlier one. */
  everRestored: ReadonlySet<Member>;
}

export function openEvidence(
  { federation, consents, restores, flips, waits }: World,
  seen: Pick<Evidence, 'runIds' | 'seenAt' | 'inflicted' | 'mishaps' | 'unsettled' | 'residentBytes'>,
): Evidence {
  const opened: OpenMember[] = [];
  const open = (member: Member, dataFolder: string): OpenMember => {
    const file = join(dataFolder, 'anneal.db');
    const one = {
      member,
      dataFolder,
      store: openReadOnlyStore(file),
      db: openSqlite(file, { readOnly: true }),
    };
    opened.push(one);
    return one;
  };
  const { coordinator, sites, rounds, quorum } = federation;
  const began = Math.min(...seen.inflicted.map(({ beganAt }) => beganAt));
  const ofEpisode = restores.filter(({ restoredAt }) => restoredAt >= began);
  return {
    ...seen,
    ...{ rounds, quorum, consents },
    coordinator: open('coordinator', coordinator.dataFolder),
    sites: sites.map(({ agent, siteId, name }) => ({
      ...open(agent.member, agent.dataFolder),
      siteId,
      name,
    })),
    ...{ restores: ofEpisode, flips, waits },
    restored: new Set(ofEpisode.map(({ member }) => member)),
    everRestored: new Set(restores.map(({ member }) => member)),
    [Symbol.dispose]() {
      for (const { store, db } of opened) {
        store.close();
        db.close();
      }
    },
  };
}

const contribution = contributionRecord.pick({
  round: true,
  updateSha256: true,
  cohortSha256: true,
  announcedAt: true,
});
const contributions = `SELECT round, update_sha256 AS updateSha256, cohort_sha256 AS cohortSha256, announced_at AS announcedAt
  FROM announced_contributions WHERE run_id = @runId ORDER BY announced_at`;

/** Every update that a site announced in a run, also those that were taken back. */
export const announcedBy = ({ db }: OpenSite, runId: string): z.infer<typeof contribution>[] =>
  db.all(contribution, contributions, { runId });
