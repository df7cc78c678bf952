-- Version 2: what all strategies keep from round to round, and metrics of an evaluation.

ALTER TABLE evaluations ADD COLUMN counts TEXT;          -- JSON, core/strategy/evaluation; null: accuracy only

ALTER TABLE rounds ADD COLUMN participants TEXT;         -- JSON list of site ids that train; null: all
ALTER TABLE rounds ADD COLUMN foundation_sha256 TEXT;    -- part put under the global state when the round closed
ALTER TABLE rounds ADD COLUMN memory_sha256 TEXT;        -- the server optimiser's moments after the round
ALTER TABLE rounds ADD COLUMN drift_spread REAL;
ALTER TABLE rounds ADD COLUMN drift_share REAL;
ALTER TABLE rounds ADD COLUMN epsilon REAL;              -- spent up to and with this round; null without privacy
ALTER TABLE rounds ADD COLUMN exclusions TEXT;           -- JSON, by a robust rule
ALTER TABLE rounds ADD COLUMN layer_ranks TEXT;          -- JSON, rank of each layer in the result
ALTER TABLE rounds ADD COLUMN metrics TEXT;              -- JSON, of the result's evaluation

-- A site's own part of a run: factors and head that do not travel, what rounding left over. By round in which it
-- was made, so that a round that is done again starts from what it had started from.
CREATE TABLE site_memory (
  run_id TEXT NOT NULL REFERENCES runs(id),
  round INTEGER NOT NULL,
  sha256 TEXT NOT NULL,                                  -- of a file in the blob store
  created_at TEXT NOT NULL,
  PRIMARY KEY (run_id, round)
) STRICT;
