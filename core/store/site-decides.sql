-- Version 5 of the store: what a site decides, and what runs ask of it.

-- Site: its own rules, in versions; the newest holds.
CREATE TABLE site_policies (
  version INTEGER PRIMARY KEY CHECK (version >= 1),
  policy TEXT NOT NULL,                     -- SitePolicy of core/config
  sha256 TEXT NOT NULL,                     -- of its canonical JSON; the audit trail names the same
  actor TEXT NOT NULL,
  created_at TEXT NOT NULL
) STRICT;

-- Site: the contract that each run was first seen with. A run has one, for good.
CREATE TABLE contracts (
  run_id TEXT PRIMARY KEY REFERENCES runs(id),
  sha256 TEXT NOT NULL,
  document TEXT NOT NULL,                   -- Contract of core/policy
  final_state_sha256 TEXT,                  -- the one state that is evaluated when the rounds are over
  created_at TEXT NOT NULL
) STRICT;

-- Site: what people decided about contracts. Rows are never changed but for `ended_at`.
CREATE TABLE decisions (
  id INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL,                     -- the run on the card
  contract_sha256 TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('approved', 'approved-within-limits', 'covered', 'declined')),
  standing TEXT,                            -- with limits: StandingApproval of core/policy
  covered_by INTEGER REFERENCES decisions(id),
  reason TEXT,                              -- why it was declined
  actor TEXT NOT NULL,
  created_at TEXT NOT NULL,
  ended_at TEXT                             -- when limits were taken back
) STRICT;
CREATE INDEX decisions_by_contract ON decisions(contract_sha256);

-- The policy that holds is the one that the trail names last.
CREATE INDEX audit_by_action ON audit(action, seq);

-- Sites behind the result of a round, when it closed. Null: an older version closed it; as good as unknown.
ALTER TABLE rounds ADD COLUMN contributors INTEGER;

-- Coordinator: the policy that a site published, SitePolicy of core/config. Null: none yet.
ALTER TABLE sites ADD COLUMN policy TEXT;
