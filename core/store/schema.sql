-- Version 1 of the store. STRICT tables; times are ISO 8601 UTC text; hashes lower-case hex SHA-256.

CREATE TABLE settings (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL                       -- JSON
) STRICT;

-- A pseudonym is what the hospital calls the subject in its CSV, never a name. Identifiers are ciphertext.
CREATE TABLE subjects (
  id INTEGER PRIMARY KEY,
  pseudonym TEXT NOT NULL UNIQUE CHECK (pseudonym <> ''),
  identifier_ciphertext BLOB,
  created_at TEXT NOT NULL
) STRICT;

-- Append-only: triggers refuse UPDATE and DELETE.
CREATE TABLE consent_events (
  id INTEGER PRIMARY KEY,
  subject_id INTEGER NOT NULL REFERENCES subjects(id),
  kind TEXT NOT NULL CHECK (kind IN ('grant', 'withdraw')),
  -- What may be done with the photographs, for instance 'federated-training'; '*' withdraws from everything.
  purpose TEXT NOT NULL CHECK (purpose <> ''),
  document_version TEXT,                    -- what was signed; a withdrawal may name none
  valid_from TEXT NOT NULL,
  expires_at TEXT,                          -- first instant at which it holds no more
  recorded_at TEXT NOT NULL,
  recorded_by TEXT NOT NULL,
  CHECK (kind = 'withdraw' OR (document_version IS NOT NULL AND purpose <> '*')),
  CHECK (expires_at IS NULL OR expires_at > valid_from)
) STRICT;
CREATE INDEX consent_events_by_subject ON consent_events(subject_id, id);
CREATE INDEX consent_events_by_purpose ON consent_events(purpose, id);

CREATE TABLE datasets (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_at TEXT NOT NULL
) STRICT;

CREATE TABLE images (
  id INTEGER PRIMARY KEY,
  dataset_id INTEGER NOT NULL REFERENCES datasets(id),
  subject_id INTEGER NOT NULL REFERENCES subjects(id),
  sha256 TEXT NOT NULL,                     -- of the original file's bytes
  source_name TEXT NOT NULL,                -- file name in the import, no folder
  label TEXT NOT NULL,
  split TEXT NOT NULL CHECK (split IN ('train', 'test')),
  status TEXT NOT NULL CHECK (status IN ('ready', 'set-aside')),
  reason TEXT,                              -- why it was set aside
  crop_sha256 TEXT,                         -- of the aligned crop; null when set aside at import
  width INTEGER NOT NULL,                   -- pixels of the source
  height INTEGER NOT NULL,
  face_box TEXT,                            -- JSON {x, y, width, height} in source pixels
  imported_at TEXT NOT NULL,
  UNIQUE (dataset_id, sha256),
  CHECK (status = 'set-aside' OR crop_sha256 IS NOT NULL),
  CHECK (status = 'ready' OR reason IS NOT NULL)
) STRICT;
CREATE INDEX images_by_subject ON images(subject_id);

-- The registry of a coordinator.
CREATE TABLE sites (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  public_key TEXT NOT NULL,                 -- Ed25519, base64url of the raw 32 bytes
  certificate_serial TEXT NOT NULL,
  joined_at TEXT NOT NULL,
  revoked_at TEXT,
  last_seen_at TEXT
) STRICT;

CREATE TABLE invitations (
  id TEXT PRIMARY KEY,
  site_name TEXT NOT NULL,
  token_sha256 TEXT NOT NULL,
  created_at TEXT NOT NULL,
  expires_at TEXT NOT NULL,
  used_at TEXT,
  site_id TEXT
) STRICT;

-- Runs and rounds exist on both sides; a site's rows describe its own part.
CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  config TEXT NOT NULL,                     -- JSON, core/strategy runConfigSchema
  status TEXT NOT NULL CHECK (status IN ('waiting', 'running', 'evaluating', 'finished', 'failed', 'stopped')),
  round INTEGER NOT NULL,                   -- the round in progress, 0-based
  created_at TEXT NOT NULL,
  finished_at TEXT,
  failure TEXT                              -- JSON ErrorReport
) STRICT;

CREATE TABLE rounds (
  run_id TEXT NOT NULL REFERENCES runs(id),
  round INTEGER NOT NULL CHECK (round >= 0),
  stage TEXT NOT NULL CHECK (stage IN ('initiating', 'heating', 'annealing', 'cooling', 'baseline')),
  rank INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('open', 'aggregating', 'closed')),
  trainable_parameters INTEGER NOT NULL,
  start_sha256 TEXT NOT NULL,               -- global state that the round starts from
  result_sha256 TEXT,                       -- global state that it ended with
  opened_at TEXT NOT NULL,
  deadline_at TEXT,
  closed_at TEXT,
  bytes_up INTEGER NOT NULL DEFAULT 0,
  bytes_down INTEGER NOT NULL DEFAULT 0,
  parameters_up INTEGER NOT NULL DEFAULT 0,
  parameters_down INTEGER NOT NULL DEFAULT 0,
  mean_loss REAL,
  accuracy REAL,
  energy_kept REAL,
  PRIMARY KEY (run_id, round)
) STRICT;

-- Coordinator: what each site did in a round. Site: one row per round, its own.
CREATE TABLE round_sites (
  run_id TEXT NOT NULL,
  round INTEGER NOT NULL,
  site_id TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('working', 'announced', 'received', 'rejected', 'absent')),
  reason TEXT,
  examples INTEGER,
  mean_loss REAL,
  update_sha256 TEXT,
  size_bytes INTEGER,
  cohort_sha256 TEXT,                       -- site only
  step INTEGER, steps INTEGER,              -- last progress seen
  updated_at TEXT NOT NULL,
  PRIMARY KEY (run_id, round, site_id),
  FOREIGN KEY (run_id, round) REFERENCES rounds(run_id, round)
) STRICT;

-- Held-out counts of a global state, as far as they may leave a site.
CREATE TABLE evaluations (
  run_id TEXT NOT NULL REFERENCES runs(id),
  state_sha256 TEXT NOT NULL,
  site_id TEXT NOT NULL,
  correct INTEGER NOT NULL,
  total INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  PRIMARY KEY (run_id, state_sha256, site_id),
  CHECK (correct BETWEEN 0 AND total)
) STRICT;

-- The exact pictures a round was trained on. Members are append-only by trigger; of a cohort only
-- `superseded` may change. Several cohorts of one round that are not superseded have all left their mark.
CREATE TABLE cohorts (
  id INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL,
  round INTEGER NOT NULL,
  sha256 TEXT NOT NULL,                     -- of the canonical list of members
  purpose TEXT NOT NULL,
  frozen_at TEXT NOT NULL,
  size INTEGER NOT NULL,
  superseded INTEGER NOT NULL DEFAULT 0     -- 1 when it was replaced before anything trained on it left
    CHECK (superseded IN (0, 1))
) STRICT;
CREATE INDEX cohorts_by_round ON cohorts(run_id, round);
CREATE TABLE cohort_members (
  cohort_id INTEGER NOT NULL REFERENCES cohorts(id),
  image_id INTEGER NOT NULL REFERENCES images(id),
  subject_id INTEGER NOT NULL REFERENCES subjects(id),
  PRIMARY KEY (cohort_id, image_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX cohort_members_by_subject ON cohort_members(subject_id);

-- One file may play several parts: two runs with the same seed start from the same state.
CREATE TABLE adapters (
  id INTEGER PRIMARY KEY,
  sha256 TEXT NOT NULL,                     -- of the model-state file in the blob store
  run_id TEXT NOT NULL,
  round INTEGER NOT NULL,                   -- -1 for the state a run starts from
  kind TEXT NOT NULL CHECK (kind IN ('global', 'update')),
  site_id TEXT,
  rank INTEGER NOT NULL,
  parameters INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  created_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX adapters_once ON adapters(sha256, run_id, round, kind, coalesce(site_id, ''));
CREATE INDEX adapters_by_run ON adapters(run_id, kind, round);

-- Messages written in the same transaction as the state they speak of; sent afterwards.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL,
  payload BLOB NOT NULL,
  retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
  created_at TEXT NOT NULL,
  sent_at TEXT
) STRICT;
CREATE INDEX outbox_unsent ON outbox(id) WHERE sent_at IS NULL;

-- Ids of envelopes already handled, against replays.
CREATE TABLE inbox (
  sender TEXT NOT NULL,
  message_id TEXT NOT NULL,
  received_at TEXT NOT NULL,
  PRIMARY KEY (sender, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_by_age ON inbox(received_at);

-- Hash-chained: hash = SHA-256(previous hash, canonical JSON of the row). Append-only by trigger.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  details TEXT NOT NULL,                    -- JSON; pseudonyms and hashes, never identities
  previous_hash TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;

CREATE TRIGGER consent_events_no_update BEFORE UPDATE ON consent_events BEGIN SELECT RAISE(ABORT, 'consent events are append-only'); END;
CREATE TRIGGER consent_events_no_delete BEFORE DELETE ON consent_events BEGIN SELECT RAISE(ABORT, 'consent events are append-only'); END;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER cohort_members_no_update BEFORE UPDATE ON cohort_members BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
CREATE TRIGGER cohort_members_no_delete BEFORE DELETE ON cohort_members BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
CREATE TRIGGER cohorts_no_update BEFORE UPDATE OF id, run_id, round, sha256, purpose, frozen_at, size ON cohorts BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
CREATE TRIGGER cohorts_no_delete BEFORE DELETE ON cohorts BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
