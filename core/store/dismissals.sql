-- Version 6: a site that the coordinator does not listen to for a while, and why.

ALTER TABLE sites ADD COLUMN dismissed_until TEXT;
ALTER TABLE sites ADD COLUMN dismissal_reason TEXT;
