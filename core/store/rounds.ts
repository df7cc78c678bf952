import { AppError } from '../shared/errors.ts';
import { roundRecord } from './records.ts';
import { assignments, definedKeys, insertSql, selectList } from './sql-text.ts';
import { isDuplicate, isOrphan, type Sqlite } from './sqlite.ts';
import type { Rounds, RoundsReader } from './tables.ts';

const columns = selectList(roundRecord);
const insert = `${insertSql('rounds', Object.keys(roundRecord.shape))} RETURNING ${columns}`;

const traffic = `UPDATE rounds SET bytes_up = bytes_up + @bytesUp, bytes_down = bytes_down + @bytesDown,
  parameters_down = parameters_down + @parametersDown
  WHERE run_id = @runId AND round = (SELECT round FROM runs WHERE id = @runId)`;

/** Lists and tables are JSON in their columns. */
function asColumns(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [
      key,
      typeof value === 'object' && value !== null ? JSON.stringify(value) : value,
    ]),
  );
}

export function createRoundsReader(db: Sqlite): RoundsReader {
  return {
    get(runId, round) {
      return db.get(roundRecord, `SELECT ${columns} FROM rounds WHERE run_id = @runId AND round = @round`, {
        runId,
        round,
      });
    },
    listOfRun(runId) {
      return db.all(roundRecord, `SELECT ${columns} FROM rounds WHERE run_id = @runId ORDER BY round`, {
        runId,
      });
    },
  };
}

export function createRounds(db: Sqlite, now: () => string): Rounds {
  const reader = createRoundsReader(db);
  return {
    ...reader,
    insert(round) {
      const unset = Object.fromEntries(Object.keys(roundRecord.shape).map((key) => [key, null]));
      try {
        return db.get(roundRecord, insert, {
          ...unset,
          ...asColumns(round),
          status: round.status ?? 'open',
          openedAt: round.openedAt ?? now(),
          bytesUp: round.bytesUp ?? 0,
          bytesDown: round.bytesDown ?? 0,
          parametersUp: round.parametersUp ?? 0,
          parametersDown: round.parametersDown ?? 0,
        })!;
      } catch (thrown) {
        if (isDuplicate(thrown)) {
          throw new AppError('RUN_CONFLICT', `Round ${round.round} of this run exists already.`, {
            cause: thrown,
          });
        }
        if (isOrphan(thrown)) throw new AppError('NOT_FOUND', 'There is no such run.', { cause: thrown });
        throw thrown;
      }
    },
    update(runId, round, change) {
      const { addParametersUp, ...fields } = change;
      const added = addParametersUp === undefined ? '' : 'parameters_up = parameters_up + @addParametersUp';
      const sets = [assignments(definedKeys(fields)), added].filter((text) => text !== '').join(', ');
      const row =
        sets === ''
          ? reader.get(runId, round)
          : db.get(
              roundRecord,
              `UPDATE rounds SET ${sets} WHERE run_id = @runId AND round = @round RETURNING ${columns}`,
              { ...asColumns(fields), addParametersUp, runId, round },
            );
      if (row === null) throw new AppError('NOT_FOUND', 'There is no such round.');
      return row;
    },
    addTraffic(runId, { bytesUp = 0, bytesDown = 0, parametersDown = 0 }) {
      // Once for each chunk of a transfer: one statement, and nothing read.
      db.run(traffic, { runId, bytesUp, bytesDown, parametersDown });
    },
  };
}
