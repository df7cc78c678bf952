import { AppError } from '../shared/errors.ts';
import { runRecord } from './records.ts';
import { assignments, definedKeys, selectList } from './sql-text.ts';
import { isDuplicate, type Sqlite } from './sqlite.ts';
import type { Runs, RunsReader } from './tables.ts';

const columns = selectList(runRecord);

export function createRunsReader(db: Sqlite): RunsReader {
  return {
    get(id) {
      return db.get(runRecord, `SELECT ${columns} FROM runs WHERE id = @id`, { id });
    },
    list() {
      return db.all(runRecord, `SELECT ${columns} FROM runs ORDER BY created_at DESC, rowid DESC`);
    },
    current() {
      return db.get(
        runRecord,
        `SELECT ${columns} FROM runs WHERE status IN ('waiting', 'running', 'evaluating')
         ORDER BY created_at DESC, rowid DESC LIMIT 1`,
      );
    },
  };
}

export function createRuns(db: Sqlite, now: () => string): Runs {
  return {
    ...createRunsReader(db),
    insert(run) {
      try {
        return db.get(
          runRecord,
          `INSERT INTO runs (id, config, status, round, created_at)
           VALUES (@id, @config, @status, @round, @createdAt) RETURNING ${columns}`,
          {
            id: run.id,
            config: JSON.stringify(run.config),
            status: run.status ?? 'waiting',
            round: run.round ?? 0,
            createdAt: run.createdAt ?? now(),
          },
        )!;
      } catch (thrown) {
        if (isDuplicate(thrown))
          throw new AppError('RUN_CONFLICT', 'This run exists already.', { cause: thrown });
        throw thrown;
      }
    },
    update(id, change) {
      const { failure, ...plain } = change;
      const fields = {
        ...plain,
        ...(failure === undefined ? {} : { failure: failure === null ? null : JSON.stringify(failure) }),
      };
      const keys = definedKeys(fields);
      const row =
        keys.length === 0
          ? db.get(runRecord, `SELECT ${columns} FROM runs WHERE id = @id`, { id })
          : db.get(runRecord, `UPDATE runs SET ${assignments(keys)} WHERE id = @id RETURNING ${columns}`, {
              ...fields,
              id,
            });
      if (row === null) throw new AppError('NOT_FOUND', 'There is no such run.');
      return row;
    },
  };
}
