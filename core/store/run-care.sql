-- Version 12 of the store: whom a round waits for, and why a run does not go on.

-- Coordinator: the sites that an open round waits for. It changes by what happened only, never by who is connected after a
-- restart.
CREATE TABLE round_members (
  run_id TEXT NOT NULL,
  round INTEGER NOT NULL,
  site_id TEXT NOT NULL,
  joined_at TEXT NOT NULL,
  left_at TEXT,                             -- when it was waited for no longer, although it was not heard
  PRIMARY KEY (run_id, round, site_id),
  FOREIGN KEY (run_id, round) REFERENCES rounds(run_id, round)
) STRICT;

-- Of a round in progress an older version kept who did something in it, and who was drawn.
INSERT INTO round_members (run_id, round, site_id, joined_at)
SELECT seen.run_id, seen.round, seen.site_id, rounds.opened_at FROM (
  SELECT run_id, round, site_id FROM round_sites WHERE cohort_sha256 IS NULL
  UNION
  SELECT rounds.run_id, rounds.round, part.value FROM rounds, json_each(rounds.participants) AS part
  UNION
  SELECT rounds.run_id, rounds.round, evaluations.site_id FROM rounds
  JOIN evaluations ON evaluations.run_id = rounds.run_id AND evaluations.state_sha256 = rounds.start_sha256
) AS seen JOIN rounds ON rounds.run_id = seen.run_id AND rounds.round = seen.round JOIN runs ON runs.id = seen.run_id
WHERE runs.round = rounds.round AND runs.status IN ('running', 'evaluating');

-- Coordinator: why the run does not go on now, and since when (RunPause of core/store/records.ts). Null: it goes on. Status and round are those it
-- had before, and has again afterwards.
ALTER TABLE runs ADD COLUMN pause TEXT;
