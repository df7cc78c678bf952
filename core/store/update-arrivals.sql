-- Version 3: every update that a site let go, also those that were rejected or that a second one took the place of.

CREATE TABLE update_arrivals (
  run_id TEXT NOT NULL,
  round INTEGER NOT NULL,
  site_id TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  created_at TEXT NOT NULL,
  PRIMARY KEY (run_id, round, site_id, sha256),
  FOREIGN KEY (run_id, round) REFERENCES rounds(run_id, round)
) STRICT;
