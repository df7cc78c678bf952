-- Version 15 of the store: what the stored crop of an image is. `region`: a part of the photograph around the face, with five
-- landmarks in it, of which every base model gets its own square. `dlib-150`: the square that earlier versions cut, which serves
-- base models with that alignment alone. `cropped`: a picture that somebody cropped before the import. Null without a crop.

ALTER TABLE images ADD COLUMN crop_kind TEXT;

UPDATE images SET crop_kind = CASE WHEN face_box IS NULL THEN 'cropped' ELSE 'dlib-150' END WHERE crop_sha256 IS NOT NULL;
