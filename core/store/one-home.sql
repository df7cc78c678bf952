-- Version 4 of the store: words of the field, and one place for each fact.

ALTER TABLE rounds RENAME COLUMN foundation_sha256 TO frozen_base_sha256;

-- Site: parts of the frozen base delta under the state that the round started from, oldest first, as the manifest
-- listed them (JSON list of hashes). Null: recorded before version 4, or at a coordinator, whose rounds say which part
-- each of them added (frozen_base_sha256).
ALTER TABLE rounds ADD COLUMN frozen_base_parts TEXT;

-- Site: the state that an update was trained from, where the update's file means nothing without it. Null: it does, or
-- the update was made before version 4.
ALTER TABLE adapters ADD COLUMN start_sha256 TEXT;

-- What an answer names stands beside the sealed message. What is no envelope has nothing that could be answered.
CREATE TABLE outbox_with_keys (
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL,
  payload BLOB NOT NULL,
  retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
  created_at TEXT NOT NULL,
  sent_at TEXT,                             -- when the receiver itself had answered
  message_id TEXT NOT NULL,
  type TEXT NOT NULL,
  run_id TEXT,                              -- of an announcement, as the next two
  round INTEGER,
  update_sha256 TEXT
) STRICT;
INSERT INTO outbox_with_keys
SELECT id, topic, payload, retain, created_at, sent_at, envelope ->> 'id', envelope ->> 'type',
  CASE envelope ->> 'type' WHEN 'announce' THEN envelope ->> '$.body.runId' END,
  CASE envelope ->> 'type' WHEN 'announce' THEN CAST(envelope ->> '$.body.round' AS INTEGER) END,
  CASE envelope ->> 'type' WHEN 'announce' THEN envelope ->> '$.body.update.sha256' END
FROM (SELECT *, CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) END AS envelope FROM outbox)
WHERE envelope ->> 'id' IS NOT NULL AND envelope ->> 'type' IS NOT NULL;
DROP TABLE outbox;
ALTER TABLE outbox_with_keys RENAME TO outbox;
CREATE INDEX outbox_unsent ON outbox(id) WHERE sent_at IS NULL;

-- Every message may be repeated without harm; replays within a process are found in memory.
DROP TABLE inbox;

-- Who names which blob, by run, round and purpose, and whether it is still needed for that. Nothing else keeps a blob:
-- core/store/retention.ts deletes what no row holds. A reference comes and goes with the row that names the blob.
-- (The plus signs leave the index over hashes as the only one that SQLite may choose.)
CREATE VIEW blob_references (sha256, run_id, round, purpose, held) AS
WITH current_run AS (
  SELECT id FROM runs WHERE status IN ('waiting', 'running', 'evaluating') ORDER BY created_at DESC, rowid DESC LIMIT 1
)
SELECT crop_sha256, NULL, NULL, 'crop', 1 FROM images WHERE crop_sha256 IS NOT NULL
UNION ALL
SELECT sha256, run_id, round, CASE kind WHEN 'global' THEN 'global-state' ELSE 'update' END, 1 FROM adapters
UNION ALL
SELECT start_sha256, run_id, round, 'start-state', +run_id IS (SELECT id FROM current_run) FROM rounds
UNION ALL
SELECT start_sha256, run_id, round, 'start-state', 1 FROM adapters WHERE start_sha256 IS NOT NULL
UNION ALL
-- A run's adapters are nothing without what was put under them.
SELECT frozen_base_sha256, run_id, round, 'frozen-base', 1 FROM rounds WHERE frozen_base_sha256 IS NOT NULL
UNION ALL
SELECT part.value, NULL, NULL, 'frozen-base', 1 FROM settings, json_each(settings.value) AS part
WHERE settings.key = 'site.foundation'
UNION ALL
SELECT settings.value ->> '$', NULL, NULL, 'manifest', 1 FROM settings WHERE settings.key = 'coordinator.manifest'
UNION ALL
SELECT part.value, run_id, round, 'frozen-base', 1 FROM rounds, json_each(rounds.frozen_base_parts) AS part
UNION ALL
SELECT memory_sha256, run_id, round, 'server-memory', +run_id IS (SELECT id FROM current_run)
  AND round = (SELECT max(round) FROM rounds AS every WHERE every.run_id = rounds.run_id AND every.status = 'closed')
FROM rounds WHERE memory_sha256 IS NOT NULL
UNION ALL
-- What the sites delivered for the round in progress has no other copy that is asked for again.
SELECT update_sha256, run_id, round, 'update', +run_id IS (SELECT id FROM current_run) AND rounds.status <> 'closed'
  AND round_sites.status IN ('announced', 'received', 'absent')
FROM round_sites JOIN rounds USING (run_id, round) WHERE update_sha256 IS NOT NULL
UNION ALL
SELECT sha256, run_id, round, 'update', 0 FROM update_arrivals
UNION ALL
-- Also of finished runs: a site's personal model is made of them.
SELECT sha256, run_id, round, 'local-parameters', 1 FROM site_memory;

-- Whether somebody else needs a blob is asked of each that loses a reference.
CREATE INDEX images_by_crop ON images(crop_sha256) WHERE crop_sha256 IS NOT NULL;
CREATE INDEX round_sites_by_update ON round_sites(update_sha256) WHERE update_sha256 IS NOT NULL;
CREATE INDEX update_arrivals_by_blob ON update_arrivals(sha256);
