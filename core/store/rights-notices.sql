-- Version 9, too: withdrawals that concern a model.

-- Site: every update that it announced, with the cohort that it was made of, also those that were taken back.
CREATE TABLE announced_contributions (
  run_id TEXT NOT NULL,
  round INTEGER NOT NULL,
  site_id TEXT NOT NULL,
  update_sha256 TEXT NOT NULL,
  cohort_sha256 TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  announced_at TEXT NOT NULL,
  PRIMARY KEY (run_id, round, site_id, update_sha256),
  FOREIGN KEY (run_id, round) REFERENCES rounds(run_id, round)
) STRICT;
INSERT INTO announced_contributions
SELECT run_id, round, site_id, update_sha256, cohort_sha256, coalesce(size_bytes, 0), updated_at FROM round_sites
WHERE update_sha256 IS NOT NULL AND cohort_sha256 IS NOT NULL;

-- An update of a site was made of images of somebody who has withdrawn since. At a site: what it tells its coordinator. At a
-- coordinator: what its sites told. Who it was stands in neither, nor at which hour.
CREATE TABLE withdrawal_notices (
  run_id TEXT NOT NULL REFERENCES runs(id),
  round INTEGER NOT NULL CHECK (round >= 0),
  site_id TEXT NOT NULL,
  update_sha256 TEXT NOT NULL,
  noted_on TEXT NOT NULL,                   -- day, UTC
  told INTEGER NOT NULL CHECK (told IN (0, 1)),  -- site: whether the message is in the outbox, or was
  PRIMARY KEY (run_id, round, site_id, update_sha256)
) STRICT;
