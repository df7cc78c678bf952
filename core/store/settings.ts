import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import type { Sqlite } from './sqlite.ts';
import type { Settings, SettingsReader } from './tables.ts';

const valueRow = z.object({ value: z.string() });

export function createSettingsReader(db: Sqlite): SettingsReader {
  return {
    get(key, schema) {
      const row = db.get(valueRow, 'SELECT value FROM settings WHERE key = @key', { key });
      if (row === null) return null;
      const parsed = schema.safeParse(JSON.parse(row.value));
      if (!parsed.success) {
        throw new AppError('DATABASE_DAMAGED', `The stored setting "${key}" cannot be understood.`, {
          cause: parsed.error,
        });
      }
      return parsed.data;
    },
  };
}

export function createSettings(db: Sqlite): Settings {
  return {
    ...createSettingsReader(db),
    set(key, value) {
      const text = JSON.stringify(value);
      if (text === undefined) throw new TypeError(`setting ${key} has no JSON form`);
      db.run(
        'INSERT INTO settings (key, value) VALUES (@key, @text) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
        { key, text },
      );
    },
    remove(key) {
      db.run('DELETE FROM settings WHERE key = @key', { key });
    },
  };
}
