import { z } from 'zod';
import { imageCount, imageRecord } from './records.ts';
import { insertSql, selectList, whereSql } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Images, ImagesReader } from './tables.ts';

const columns = `${selectList(imageRecord.omit({ pseudonym: true }), 'images')}, subjects.pseudonym AS pseudonym`;
const from = 'FROM images JOIN subjects ON subjects.id = images.subject_id';
const insert = `${insertSql('images', [
  'datasetId',
  'subjectId',
  'sha256',
  'sourceName',
  'label',
  'split',
  'status',
  'reason',
  'cropSha256',
  'width',
  'height',
  'faceBox',
  'importedAt',
])} ON CONFLICT (dataset_id, sha256) DO NOTHING RETURNING id`;
const idRow = z.object({ id: z.int() });

export function createImagesReader(db: Sqlite): ImagesReader {
  return {
    get(id) {
      return db.get(imageRecord, `SELECT ${columns} ${from} WHERE images.id = @id`, { id });
    },
    list(filter = {}) {
      return db.all(imageRecord, `SELECT ${columns} ${from}${whereSql(filter)} ORDER BY images.id`, {
        ...filter,
      });
    },
    bySha(datasetId, sha256) {
      return db.get(
        imageRecord,
        `SELECT ${columns} ${from} WHERE images.dataset_id = @datasetId AND images.sha256 = @sha256`,
        { datasetId, sha256 },
      );
    },
    counts(filter = {}) {
      return db.all(
        imageCount,
        `SELECT label, split, sum(status = 'ready') AS ready, sum(status = 'set-aside') AS setAside
         FROM images${whereSql(filter)} GROUP BY label, split ORDER BY label, split`,
        { ...filter },
      );
    },
  };
}

export function createImages(db: Sqlite, now: () => string): Images {
  return {
    ...createImagesReader(db),
    insert(image) {
      const row = db.get(idRow, insert, {
        datasetId: image.datasetId,
        subjectId: image.subjectId,
        sha256: image.sha256,
        sourceName: image.sourceName,
        label: image.label,
        split: image.split,
        status: image.status,
        reason: image.reason,
        cropSha256: image.cropSha256,
        width: image.width,
        height: image.height,
        faceBox: faceBoxText(image.faceBox),
        importedAt: image.importedAt ?? now(),
      });
      return row?.id ?? null;
    },
    setAside(id, reason) {
      db.run("UPDATE images SET status = 'set-aside', reason = @reason WHERE id = @id", { id, reason });
    },
    restore(id, image) {
      db.run(
        `UPDATE images SET status = 'ready', reason = NULL, crop_sha256 = @cropSha256, width = @width,
           height = @height, face_box = @faceBox WHERE id = @id`,
        { ...image, id, faceBox: faceBoxText(image.faceBox) },
      );
    },
  };
}

function faceBoxText(box: object | null | undefined): string | null {
  return box == null ? null : JSON.stringify(box);
}
