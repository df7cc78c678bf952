-- Version 8 of the store: what is known of an image. Old rows say nothing of their quality, and null is never a reason
-- to set an image aside. (Width and height are 0 where a file could not be read.)

ALTER TABLE images ADD COLUMN quality TEXT;     -- JSON, `imageQualitySchema` of core/store/records.ts
ALTER TABLE images ADD COLUMN crop_hash TEXT;   -- perceptual hash of the crop, 64 hex digits
ALTER TABLE images ADD COLUMN aside_kind TEXT;  -- kind of the reason it was set aside for

UPDATE images SET aside_kind = CASE
  WHEN reason = 'no face found' THEN 'no-face'
  WHEN reason LIKE '% faces found' THEN 'several-faces'
  ELSE 'other'
END WHERE status = 'set-aside';
