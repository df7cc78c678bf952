-- Version 4 of the store: words of the field, and one place for each fact.

ALTER TABLE rounds RENAME COLUMN foundation_sha256 TO frozen_base_sha256;
