-- Version 7 of the store: what a consent says besides purpose and term, and where it was read from.

-- Who signed; null: recorded before version 7, or not said.
ALTER TABLE consent_events ADD COLUMN given_by TEXT CHECK (given_by IN ('subject', 'guardian', 'representative'));
-- Date on which somebody checked it with who signed.
ALTER TABLE consent_events ADD COLUMN verified_on TEXT;
-- The hospital's own name of the document: a form's number, the id of a FHIR resource.
ALTER TABLE consent_events ADD COLUMN reference TEXT;

-- In a grant that was given after a withdrawal: which one. Without it no grant counts after a withdrawal. Grants that
-- counted by the rule of earlier versions, because they are dated after it, go on to count.
ALTER TABLE consent_events ADD COLUMN after_withdrawal INTEGER REFERENCES consent_events(id);
DROP TRIGGER consent_events_no_update;
UPDATE consent_events AS event SET after_withdrawal = (
  SELECT CASE WHEN event.valid_from >= withdrawal.valid_from THEN withdrawal.id END
  FROM consent_events AS withdrawal
  WHERE withdrawal.kind = 'withdraw' AND withdrawal.subject_id = event.subject_id
    AND withdrawal.purpose IN (event.purpose, '*') AND withdrawal.id < event.id
  ORDER BY withdrawal.id DESC LIMIT 1)
WHERE kind = 'grant';
CREATE TRIGGER consent_events_no_update BEFORE UPDATE ON consent_events BEGIN SELECT RAISE(ABORT, 'consent events are append-only'); END;

-- The resources that consents were read from, so that they can be given back as they came; only the newest version of each.
CREATE TABLE consent_sources (
  id INTEGER PRIMARY KEY,
  subject_id INTEGER NOT NULL REFERENCES subjects(id) ON DELETE CASCADE,
  format TEXT NOT NULL CHECK (format IN ('fhir-r4')),
  source_key TEXT NOT NULL UNIQUE,          -- what it is called wherever it turns up again
  sha256 TEXT NOT NULL,                     -- of `document`
  document TEXT NOT NULL,                   -- canonical JSON, without names
  given_at TEXT,                            -- null: it does not say
  first_read_at TEXT NOT NULL,
  grants TEXT NOT NULL,                     -- JSON: consent events that it stands for, by purpose
  up_to_event_id INTEGER NOT NULL           -- newest consent event of the subject at that time
) STRICT;
CREATE INDEX consent_sources_by_subject ON consent_sources(subject_id);
