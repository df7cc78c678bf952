-- Version 4 of the store: words of the field, and one place for each fact.

ALTER TABLE rounds RENAME COLUMN foundation_sha256 TO frozen_base_sha256;

-- Site: parts of the frozen base delta under the state that the round started from, oldest first, as the manifest
-- listed them (JSON list of hashes). Null: recorded before version 4, or at a coordinator, whose rounds say which part
-- each of them added (frozen_base_sha256).
ALTER TABLE rounds ADD COLUMN frozen_base_parts TEXT;
