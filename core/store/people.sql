-- Version 10 of the store: named people.

-- Accounts are deactivated, never deleted: the audit trail names them, and no second person gets the same name.
CREATE TABLE users (
  name TEXT PRIMARY KEY CHECK (name <> ''),
  display_name TEXT NOT NULL,
  roles TEXT NOT NULL,                      -- JSON, Role[] of core/config
  password_hash TEXT NOT NULL,              -- argon2id, PHC string format
  must_change INTEGER NOT NULL CHECK (must_change IN (0, 1)), -- a one-time password, good for choosing another
  password_expires_at TEXT,                 -- of a one-time password
  password_given_by TEXT,                   -- who handed the last one-time password out
  password_given_at TEXT,
  created_at TEXT NOT NULL,
  created_by TEXT NOT NULL,
  deactivated_at TEXT
) STRICT;
CREATE TRIGGER users_no_delete BEFORE DELETE ON users BEGIN SELECT RAISE(ABORT, 'accounts are deactivated, never deleted'); END;
CREATE TRIGGER users_keep_their_names BEFORE UPDATE OF name, created_at, created_by ON users BEGIN SELECT RAISE(ABORT, 'an account keeps its name'); END;

-- Acts that wait for a second person. Subjects are named by their keyed hash.
CREATE TABLE proposals (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('approve', 'policy', 'erase')),
  sha256 TEXT NOT NULL,                     -- of kind and input: the second person confirms exactly this
  input TEXT NOT NULL,                      -- JSON
  proposed_by TEXT NOT NULL,
  proposed_at TEXT NOT NULL,
  expires_at TEXT NOT NULL,
  outcome TEXT CHECK (outcome IN ('confirmed', 'refused', 'withdrawn', 'expired')), -- null: waits
  settled_by TEXT,
  settled_at TEXT
) STRICT;
CREATE INDEX proposals_by_act ON proposals(kind, sha256);
