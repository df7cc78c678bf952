-- Version 11 of the store: what a person adds to a subject by hand.

-- Scans of signed consent forms. The file itself is a blob. Its name is not kept: people name scans after patients.
CREATE TABLE consent_documents (
  id INTEGER PRIMARY KEY,
  subject_id INTEGER NOT NULL REFERENCES subjects(id) ON DELETE CASCADE,
  consent_event_id INTEGER NOT NULL REFERENCES consent_events(id) ON DELETE CASCADE,
  sha256 TEXT NOT NULL,                     -- of the file
  media_type TEXT NOT NULL CHECK (media_type IN ('application/pdf', 'image/jpeg', 'image/png')),
  size_bytes INTEGER NOT NULL,
  added_at TEXT NOT NULL,
  added_by TEXT NOT NULL,
  UNIQUE (consent_event_id, sha256)
) STRICT;
CREATE INDEX consent_documents_by_subject ON consent_documents(subject_id);
CREATE INDEX consent_documents_by_blob ON consent_documents(sha256);

-- What was corrected of which image. The audit trail names subjects by their keyed hashes and carries the hash of the
-- rows of an act (core/data/corrections.ts): labels and notes are about a person, and go when that person is erased.
CREATE TABLE image_corrections (
  id INTEGER PRIMARY KEY,
  act TEXT NOT NULL,                        -- random; one for all images that were corrected together
  image_id INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
  subject_id INTEGER NOT NULL REFERENCES subjects(id) ON DELETE CASCADE,
  new_subject_id INTEGER NOT NULL REFERENCES subjects(id) ON DELETE CASCADE,
  label TEXT NOT NULL,
  new_label TEXT NOT NULL,
  split TEXT NOT NULL CHECK (split IN ('train', 'test')),
  new_split TEXT NOT NULL CHECK (new_split IN ('train', 'test')),
  reason TEXT NOT NULL,
  note TEXT,
  corrected_at TEXT NOT NULL,
  corrected_by TEXT NOT NULL
) STRICT;
CREATE INDEX image_corrections_by_image ON image_corrections(image_id);
CREATE INDEX image_corrections_by_subject ON image_corrections(subject_id);
CREATE INDEX image_corrections_by_new_subject ON image_corrections(new_subject_id);

-- Which rounds an image was in, also after it was given to another subject.
CREATE INDEX cohort_members_by_image ON cohort_members(image_id);
