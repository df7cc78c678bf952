-- Version 7 of the store: what a consent says besides purpose and term, and where it was read from.

-- Who signed; null: recorded before version 7, or not said.
ALTER TABLE consent_events ADD COLUMN given_by TEXT CHECK (given_by IN ('subject', 'guardian', 'representative'));
-- Date on which somebody checked it with who signed.
ALTER TABLE consent_events ADD COLUMN verified_on TEXT;
-- The hospital's own name of the document: a form's number, the id of a FHIR resource.
ALTER TABLE consent_events ADD COLUMN reference TEXT;

-- The resource that an event was read from, as it came, so that it can be given back.
CREATE TABLE consent_sources (
  event_id INTEGER PRIMARY KEY REFERENCES consent_events(id),
  format TEXT NOT NULL CHECK (format IN ('fhir-r4')),
  sha256 TEXT NOT NULL,                     -- of `document`
  document TEXT NOT NULL                    -- canonical JSON
) STRICT;
CREATE INDEX consent_sources_by_hash ON consent_sources(sha256);
