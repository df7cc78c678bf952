import { consentEventRecord } from './records.ts';
import { insertSql, selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { ConsentEvents, ConsentEventsReader } from './tables.ts';

const columns = selectList(consentEventRecord);
const insert = `${insertSql('consent_events', [
  'subjectId',
  'kind',
  'purpose',
  'documentVersion',
  'validFrom',
  'expiresAt',
  'recordedAt',
  'recordedBy',
])} RETURNING ${columns}`;

export function createConsentEventsReader(db: Sqlite): ConsentEventsReader {
  return {
    ofSubject(subjectId) {
      return db.all(
        consentEventRecord,
        `SELECT ${columns} FROM consent_events WHERE subject_id = @subjectId ORDER BY id`,
        { subjectId },
      );
    },
    ofPurpose(purpose) {
      return db.all(
        consentEventRecord,
        `SELECT ${columns} FROM consent_events WHERE purpose IN (@purpose, '*') ORDER BY id`,
        { purpose },
      );
    },
    all() {
      return db.all(consentEventRecord, `SELECT ${columns} FROM consent_events ORDER BY id`);
    },
  };
}

export function createConsentEvents(db: Sqlite, now: () => string): ConsentEvents {
  return {
    ...createConsentEventsReader(db),
    append(event) {
      return db.get(consentEventRecord, insert, { ...event, recordedAt: event.recordedAt ?? now() })!;
    },
  };
}
