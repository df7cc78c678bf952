-- Version 9 of the store: the rights of a person (docs/rights.md).

-- Site: every global state that a manifest named, by the round whose result it is; -1 for the one a run starts from. That
-- of the last round is in no later round's start.
CREATE TABLE model_versions (
  run_id TEXT NOT NULL REFERENCES runs(id),
  round INTEGER NOT NULL CHECK (round >= -1),
  sha256 TEXT NOT NULL,
  learnt_at TEXT NOT NULL,
  PRIMARY KEY (run_id, round, sha256)
) STRICT, WITHOUT ROWID;

-- Site: the exact held-out pictures whose counts were sent. Append-only by trigger, as `cohorts`.
CREATE TABLE evaluation_cohorts (
  id INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL REFERENCES runs(id),
  state_sha256 TEXT NOT NULL,
  sha256 TEXT NOT NULL,                     -- of the canonical list of members, as in `cohorts`
  purpose TEXT NOT NULL,
  evaluated_at TEXT NOT NULL,
  size INTEGER NOT NULL
) STRICT;
CREATE INDEX evaluation_cohorts_by_state ON evaluation_cohorts(run_id, state_sha256);
CREATE TABLE evaluation_members (
  cohort_id INTEGER NOT NULL REFERENCES evaluation_cohorts(id),
  image_id INTEGER NOT NULL REFERENCES images(id),
  subject_id INTEGER NOT NULL REFERENCES subjects(id),
  PRIMARY KEY (cohort_id, image_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX evaluation_members_by_subject ON evaluation_members(subject_id);

-- Who asked that their crops stay when no consent holds any more.
CREATE TABLE kept_crops (
  subject_id INTEGER PRIMARY KEY REFERENCES subjects(id),
  chosen_at TEXT NOT NULL,
  actor TEXT NOT NULL
) STRICT;

-- Erasures of subjects. While one is `asked` the subject is still here, and nothing uses it any more. It is `deleting` inside
-- the one transaction that deletes its rows, and nowhere else: the triggers below look at that. `files` are still to go, in
-- the file system and in free pages of this file; then it is `done`, and nothing of the subject is left but the keyed hash.
CREATE TABLE erasures (
  id INTEGER PRIMARY KEY,
  subject_ref TEXT NOT NULL,                -- keyed hash of the pseudonym, as in the audit trail
  subject_id INTEGER,
  state TEXT NOT NULL CHECK (state IN ('asked', 'deleting', 'files', 'done')),
  actor TEXT NOT NULL,
  asked_at TEXT NOT NULL,
  done_at TEXT,
  files TEXT,                               -- JSON list of blobs that have lost their rows
  outcome TEXT,                             -- JSON, Erased of core/rights: counts and model versions
  readmitted_at TEXT,                       -- when a person said that the same pseudonym may come again
  CHECK ((state IN ('asked', 'deleting')) = (subject_id IS NOT NULL)),
  CHECK ((state = 'done') = (done_at IS NOT NULL))
) STRICT;
CREATE INDEX erasures_by_ref ON erasures(subject_ref);
CREATE UNIQUE INDEX erasures_under_way ON erasures(subject_id) WHERE subject_id IS NOT NULL;

-- Append-only tables let go of rows of a subject that is being erased, and of nothing else.
DROP TRIGGER consent_events_no_delete;
CREATE TRIGGER consent_events_no_delete BEFORE DELETE ON consent_events
WHEN NOT EXISTS (SELECT 1 FROM erasures WHERE state = 'deleting' AND subject_id = OLD.subject_id)
BEGIN SELECT RAISE(ABORT, 'consent events are append-only'); END;
DROP TRIGGER cohort_members_no_delete;
-- (Also of an image that was recorded under another subject, before somebody corrected whose it is.)
CREATE TRIGGER cohort_members_no_delete BEFORE DELETE ON cohort_members
WHEN NOT EXISTS (SELECT 1 FROM erasures WHERE state = 'deleting' AND (subject_id = OLD.subject_id
  OR subject_id = (SELECT subject_id FROM images WHERE id = OLD.image_id)))
BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
-- Of an audit row only the details: its hash stays, and the erasure's own row says what it was replaced with.
DROP TRIGGER audit_no_update;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
WHEN NOT EXISTS (SELECT 1 FROM erasures WHERE state = 'deleting')
  OR OLD.seq IS NOT NEW.seq OR OLD.at IS NOT NEW.at OR OLD.actor IS NOT NEW.actor OR OLD.action IS NOT NEW.action
  OR OLD.previous_hash IS NOT NEW.previous_hash OR OLD.hash IS NOT NEW.hash
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;

CREATE TRIGGER evaluation_cohorts_no_update BEFORE UPDATE ON evaluation_cohorts BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
CREATE TRIGGER evaluation_cohorts_no_delete BEFORE DELETE ON evaluation_cohorts BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
CREATE TRIGGER evaluation_members_no_update BEFORE UPDATE ON evaluation_members BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
CREATE TRIGGER evaluation_members_no_delete BEFORE DELETE ON evaluation_members
WHEN NOT EXISTS (SELECT 1 FROM erasures WHERE state = 'deleting' AND (subject_id = OLD.subject_id
  OR subject_id = (SELECT subject_id FROM images WHERE id = OLD.image_id)))
BEGIN SELECT RAISE(ABORT, 'frozen cohorts do not change'); END;
CREATE TRIGGER erasures_no_delete BEFORE DELETE ON erasures BEGIN SELECT RAISE(ABORT, 'erasures stay on record'); END;
