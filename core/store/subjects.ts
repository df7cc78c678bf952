import { z } from 'zod';
import { subjectRecord, subjectSummary } from './records.ts';
import { selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Subjects, SubjectsReader } from './tables.ts';

const columns = selectList(subjectRecord);
const countRow = z.object({ count: z.int() });

export function createSubjectsReader(db: Sqlite): SubjectsReader {
  return {
    byPseudonym(pseudonym) {
      return db.get(subjectRecord, `SELECT ${columns} FROM subjects WHERE pseudonym = @pseudonym`, {
        pseudonym,
      });
    },
    list({ search } = {}) {
      // instr, not LIKE: a pseudonym may hold % or _.
      const where = search === undefined ? '' : 'WHERE instr(lower(pseudonym), lower(@search)) > 0';
      return db.all(
        subjectSummary,
        `SELECT id, pseudonym, created_at AS createdAt,
           (SELECT count(*) FROM images WHERE subject_id = subjects.id AND status = 'ready') AS images,
           (SELECT json_group_array(label) FROM (SELECT DISTINCT label FROM images
              WHERE subject_id = subjects.id AND status = 'ready' ORDER BY label)) AS labels
         FROM subjects ${where} ORDER BY pseudonym`,
        { search },
      );
    },
    count() {
      return db.get(countRow, 'SELECT count(*) AS count FROM subjects')!.count;
    },
  };
}

export function createSubjects(db: Sqlite, now: () => string): Subjects {
  return {
    ...createSubjectsReader(db),
    upsert({ pseudonym, identifierCiphertext }) {
      return db.get(
        subjectRecord,
        `INSERT INTO subjects (pseudonym, identifier_ciphertext, created_at) VALUES (@pseudonym, @ciphertext, @now)
         ON CONFLICT (pseudonym) DO UPDATE
           SET identifier_ciphertext = coalesce(excluded.identifier_ciphertext, identifier_ciphertext)
         RETURNING ${columns}`,
        { pseudonym, ciphertext: identifierCiphertext, now: now() },
      )!;
    },
    setIdentifier(id, ciphertext) {
      db.run('UPDATE subjects SET identifier_ciphertext = @ciphertext WHERE id = @id', { id, ciphertext });
    },
  };
}
