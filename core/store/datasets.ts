import { datasetRecord } from './records.ts';
import { selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Datasets, DatasetsReader } from './tables.ts';

const columns = selectList(datasetRecord);

export function createDatasetsReader(db: Sqlite): DatasetsReader {
  return {
    list() {
      return db.all(datasetRecord, `SELECT ${columns} FROM datasets ORDER BY name`);
    },
  };
}

export function createDatasets(db: Sqlite, now: () => string): Datasets {
  return {
    ...createDatasetsReader(db),
    ensure(name) {
      db.run('INSERT INTO datasets (name, created_at) VALUES (@name, @now) ON CONFLICT (name) DO NOTHING', {
        name,
        now: now(),
      });
      return db.get(datasetRecord, `SELECT ${columns} FROM datasets WHERE name = @name`, { name })!;
    },
  };
}
