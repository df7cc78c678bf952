/** Backups of whole data folders: what comes back, what may go on meanwhile, and what is left when something goes wrong. */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { createBackups } from '../../core/agent/backups.ts';
import { restoredFrom } from '../../core/backup/known-backups.ts';
import { restoreBackup } from '../../core/backup/restore-backup.ts';
import { verifyBackup } from '../../core/backup/verify-backup.ts';
import { type BackupOptions, writeBackup } from '../../core/backup/write-backup.ts';
import { withdrawConsent } from '../../core/consent/consent.ts';
import { createEraser } from '../../core/rights/erase.ts';
import { erasureList, readErasures } from '../../core/rights/erasure-list.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { openDataFolder } from '../../core/store/data-folder.ts';
import { collectBlobs, sweepBlobs } from '../../core/store/retention.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { openStore } from '../../core/store/store.ts';
import {
  addModel,
  bytesOf,
  cheap,
  type FilledFolder,
  filesIn,
  fillEveryTable,
  fillFolder,
  passphrase,
  restoring,
  rowsOf,
} from '../fixtures/backups.ts';
import { found } from '../fixtures/erasable.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const child = fileURLToPath(new URL('../fixtures/backup-child.ts', import.meta.url));
const timeoutMs = 60_000;

function scene() {
  const folder = temporaryFolder();
  const at = (...names: string[]) => path.join(folder.dir, ...names);
  return {
    ...folder,
    at,
    dataDir: at('data'),
    file: at('stick', 'backup.anneal'),
    stick: at('stick'),
    [Symbol.dispose]: folder[Symbol.dispose],
  };
}

async function prepared(fill: { blobs?: number } = {}) {
  const place = scene();
  mkdirSync(place.stick);
  const filled = await fillFolder(place.dataDir, fill);
  const make = (options: Partial<BackupOptions> = {}) =>
    writeBackup(filled.source, { target: place.file, passphrase, withModels: true, cost: cheap, ...options });
  return {
    ...place,
    filled,
    make,
    [Symbol.dispose]() {
      filled[Symbol.dispose]();
      place[Symbol.dispose]();
    },
  };
}

describe('what comes back', () => {
  test(
    'every row of every table, every file that a row names, keys and models; not logs, work and partial files',
    async () => {
      using place = await prepared();
      const { dataDir, file, at } = place;
      addModel(place.filled);
      const unneeded = await place.filled.data.blobs.put(bytesOf(777, 1000));
      await (await place.filled.data.blobs.openPartial('a'.repeat(64), 500, 100)).suspend();
      mkdirSync(path.join(dataDir, 'training', 'work'), { recursive: true });
      for (const name of ['logs/agent.log', 'training/work/checkpoint', 'keys/half.pem.1234.tmp'])
        writeFileSync(path.join(dataDir, name), 'not for a backup');
      await fillEveryTable(place.filled);
      const store = openStore(place.filled.data.dbFile);
      const source = { ...place.filled.source, store };
      const before = rowsOf(place.filled.data.dbFile);
      const files = filesIn(dataDir);

      const written = await writeBackup(source, { target: file, passphrase, withModels: true, cost: cheap });
      store.close();
      const restored = await restoreBackup({ ...restoring, file, dataFolder: at('new') });

      const after = rowsOf(at('new', 'anneal.db'));
      for (const [table, rows] of Object.entries(before)) {
        expect(rows.length, table).toBeGreaterThan(0);
        if (!['settings', 'audit', 'own_epochs'].includes(table)) expect(after[table], table).toEqual(rows);
      }
      // What it says from now on is another life's.
      const [ended, begun] = after['own_epochs']!.map((row) => JSON.parse(row) as unknown[]);
      expect(ended!.slice(0, 3)).toEqual(JSON.parse(before['own_epochs']![0]!).slice(0, 3));
      expect([ended!.at(-1), begun!.at(-1)]).toEqual([expect.any(String), null]);
      // The clock goes on with the restore's own row.
      const settings = before['settings']!.filter((row) => !row.includes('clock.latest'));
      expect(after['settings']).toEqual(expect.arrayContaining(settings));
      // That it went back, and from which backup.
      expect(after['audit']!.slice(0, -2)).toEqual(before['audit']);
      const expected = Object.entries(files).filter(
        ([name]) => !/^(logs|training)|partial|\.tmp$/.test(name) && !name.includes(unneeded),
      );
      expect(filesIn(at('new'))).toEqual(Object.fromEntries(expected));
      expect(expected.map(([name]) => name)).toEqual(
        expect.arrayContaining(['keys/signing-key.pem', path.join('models', 'tiny', 'weights', 'data.bin')]),
      );
      expect(written).toMatchObject({ files: restored.files, missing: 0, sizeBytes: statSync(file).size });
      expect(restored.missing).toBe(0);
    },
    timeoutMs,
  );

  test('nobody else may read what was written or restored', async () => {
    using place = await prepared();
    await place.make();
    await restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('new') });
    if (process.platform === 'win32') return;
    expect(statSync(place.file).mode & 0o777).toBe(0o600);
    expect(statSync(place.at('new')).mode & 0o777).toBe(0o700);
    expect(statSync(place.at('new', 'keys', 'signing-key.pem')).mode & 0o777).toBe(0o600);
  });

  test('nothing of it can be read in the file', async () => {
    using place = await prepared();
    await place.make();
    const needles = ['P0', 'photo-1', 'a key', 'SQLite', 'Clinic', 'federated-training'];
    const bytes = readFileSync(place.file);
    for (const needle of needles.slice(1)) expect(bytes.includes(needle), needle).toBe(false);
  });

  test('without models, where that was asked for', async () => {
    using place = await prepared();
    addModel(place.filled);
    await place.make({ withModels: false });
    const { about } = await restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('new') });
    expect(about.withModels).toBe(false);
    expect(readdirSync(place.at('new', 'models'))).toEqual([]);
  });

  test('the restored store says so, to itself and in its trail, and the trail holds', async () => {
    using place = await prepared();
    const { id, madeAt } = await place.make();
    await restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('new') });
    const store = openStore(place.at('new', 'anneal.db'));
    expect(restoredFrom(store)).toMatchObject({ backup: id, madeAt });
    expect(store.audit.newestOf('store-restored')).toMatchObject({
      actor: 'anna',
      details: { backup: id, madeAt },
    });
    expect(store.audit.verify().intact).toBe(true);
    store.close();
  });

  test('a file that is missing or damaged here is counted and left out; everything else comes back', async () => {
    using place = await prepared();
    const [first, second] = place.filled.store.images.list();
    const { blobs } = place.filled.data;
    rmSync(blobs.path(first!.cropSha256!));
    writeFileSync(blobs.path(second!.cropSha256!), 'flipped');

    const { missing } = await place.make();
    const restored = await restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('new') });
    const verified = await verifyBackup({ file: place.file, passphrase, workRoot: place.dir });

    expect([missing, restored.missing, verified.missing]).toEqual([2, 2, 2]);
    expect(existsSync(place.at('new', 'blobs', second!.cropSha256!.slice(0, 2), second!.cropSha256!))).toBe(
      false,
    );
  });
});

describe('while everything goes on', () => {
  test('what is kept is in use, what is not here is not: a transfer would never be asked for', async () => {
    using place = await prepared({ blobs: 2 });
    const { blobs } = place.filled.data;
    const [first, second] = blobs.list() as [string, string];
    const absent = 'a'.repeat(64);
    {
      using kept = blobs.keep();
      expect([first, second, absent].map(blobs.isInUse)).toEqual([true, true, false]);
      kept.only(new Set([first, absent]));
      expect([first, second, absent].map(blobs.isInUse)).toEqual([true, false, false]);
    }
    expect([first, second, absent].map(blobs.isInUse)).toEqual([false, false, false]);
  });

  test(
    'what is recorded and deleted meanwhile leaves a copy of one moment, with every file that it names',
    async () => {
      using place = await prepared({ blobs: 60 });
      const { store, data } = place.filled;
      let steps = 0;
      const deleting: Promise<unknown>[] = [];
      const meanwhile = () => {
        steps += 1;
        // At the first step the copy of the database is not finished; later ones see it read.
        const image = store.images.list().findLast(({ cropSha256 }) => cropSha256 !== null);
        if (image === undefined || steps > 40) return;
        const cropSha256 = image.cropSha256!;
        store.images.dropCrop(image.id, 'gone');
        deleting.push(collectBlobs(store, data.blobs, [cropSha256]));
        withdrawConsent(store, { pseudonym: 'P1', recordedBy: `step ${steps}` });
      };

      await place.make({ onProgress: meanwhile });
      await Promise.all(deleting);
      await restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('new') });

      expect(steps).toBeGreaterThan(40);
      const restored = openStore(place.at('new', 'anneal.db'));
      const there = openDataFolder(place.at('new')).blobs;
      for (const sha256 of restored.blobReferences.allHeld()) await there.read(sha256);
      expect(restored.audit.verify().intact).toBe(true);
      restored.close();
      // What was to be deleted is, and nothing is kept for good.
      const held = store.blobReferences.allHeld();
      expect(data.blobs.list().filter((sha256) => !held.has(sha256))).toEqual([]);
      expect(await sweepBlobs(store, data.blobs)).toBe(0);
    },
    timeoutMs,
  );

  test('an erasure that is asked for meanwhile waits until the backup has read its files, and is done then', async () => {
    using place = await prepared();
    const { store, data } = place.filled;
    const eraser = createEraser({
      ...{ store, blobs: data.blobs, logger: silentLogger, logsFolder: data.logsDir },
      ...{ workFolder: path.join(data.trainingDir, 'work'), site: () => null },
    });
    let asked: Promise<{ doneAt: string | null }> | null = null;
    await place.make({
      onProgress({ phase }) {
        if (phase === 'copying') asked ??= eraser.erase('P0', 'anna');
      },
    });
    const during = await asked!;
    await eraser.resume();

    expect(during.doneAt).toBeNull();
    expect(eraser.find('P0')?.doneAt).not.toBeNull();
    expect(found(place.dataDir, new Map([['pseudonym', Buffer.from('photo-0')]]))).toEqual([]);
  });
});

describe('erased since', () => {
  const erasing = (filled: FilledFolder) =>
    createEraser({
      ...{
        store: filled.store,
        blobs: filled.data.blobs,
        logger: silentLogger,
        logsFolder: filled.data.logsDir,
      },
      ...{ workFolder: path.join(filled.data.trainingDir, 'work'), site: () => null },
    });

  test(
    'whoever the newest list names is erased again, with every byte, before the folder gets its name',
    async () => {
      using place = await prepared();
      const { store } = place.filled;
      await place.make();
      await new Promise((resolve) => setTimeout(resolve, 5));
      await erasing(place.filled).erase('P1', 'anna');
      writeFileSync(place.at('list.json'), JSON.stringify(erasureList(store)));

      const { erased } = await restoreBackup({
        ...restoring,
        ...{
          file: place.file,
          dataFolder: place.at('new'),
          erasures: await readErasures(place.at('list.json')),
        },
      });
      const without = await restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('newer') });

      expect(erased).toBe(1);
      expect(without.erased).toBe(0);
      const needles = new Map([
        ['name', Buffer.from('photo-1.png')],
        ['crop', bytesOf(1, 30_000)],
      ]);
      expect(found(place.at('newer'), needles).length).toBeGreaterThan(0);
      expect(found(place.at('new'), needles)).toEqual([]);
      const restored = openStore(place.at('new', 'anneal.db'));
      expect(restored.subjects.byPseudonym('P1')).toBeNull();
      expect(restored.subjects.byPseudonym('P0')).not.toBeNull();
      expect(restored.audit.verify().intact).toBe(true);
      restored.close();
    },
    timeoutMs,
  );

  test(
    'one who came back before the backup stays; the hash of a certificate alone is enough',
    async () => {
      using place = await prepared();
      const { store } = place.filled;
      const eraser = erasing(place.filled);
      await eraser.erase('P1', 'anna');
      store.erasures.readmit(store.subjects.refOf('P1'));
      store.subjects.upsert({ pseudonym: 'P1' });
      await place.make();
      const { erasures } = erasureList(store);

      const kept = await restoreBackup({
        ...restoring,
        file: place.file,
        dataFolder: place.at('kept'),
        erasures,
      });
      const gone = await restoreBackup({
        ...restoring,
        ...{ file: place.file, dataFolder: place.at('gone') },
        erasures: [{ subject: store.subjects.refOf('P0'), askedAt: null }],
      });

      expect([kept.erased, gone.erased]).toEqual([0, 1]);
    },
    timeoutMs,
  );

  test('what is no list is refused', async () => {
    using place = scene();
    for (const text of [
      '',
      '{}',
      '[]',
      '{"anneal":"erasures","version":2,"writtenAt":"2026-01-01T00:00:00Z","erasures":[]}',
      'x\ny',
    ]) {
      writeFileSync(place.at('list'), text);
      await expect(readErasures(place.at('list'))).rejects.toMatchObject({ code: 'FILE_UNREADABLE' });
    }
  });
});

describe('what is refused before anything is written', () => {
  test.each([
    ['a file that is there', (at: (...names: string[]) => string) => at('stick', 'there'), 'FILE_EXISTS'],
    ['a broken link', (at) => at('stick', 'link'), 'FILE_EXISTS'],
    ['a folder', (at) => at('stick'), 'FILE_EXISTS'],
    ['a folder that is not there', (at) => at('nowhere', 'x'), 'FILE_UNREADABLE'],
    ['the data folder itself', (at) => at('data', 'x'), 'CONFIG_INVALID'],
    ['a folder of the data folder', (at) => at('data', 'logs', 'x'), 'CONFIG_INVALID'],
    ['the data folder by a link', (at) => at('by-link', 'x'), 'CONFIG_INVALID'],
    ['a relative path', () => 'backup.anneal', 'CONFIG_INVALID'],
  ] as [string, (at: (...names: string[]) => string) => string, string][])(
    '%s',
    async (_name, target, code) => {
      using place = await prepared();
      writeFileSync(place.at('stick', 'there'), 'mine');
      symlinkSync(place.at('nothing'), place.at('stick', 'link'));
      symlinkSync(place.dataDir, place.at('by-link'));

      await expect(place.make({ target: target(place.at) })).rejects.toMatchObject({ code });

      expect(readFileSync(place.at('stick', 'there'), 'utf8')).toBe('mine');
      expect(readdirSync(place.stick).sort()).toEqual(['link', 'there']);
      expect(existsSync(path.join(place.dataDir, 'x'))).toBe(false);
    },
  );

  test('a name that is taken meanwhile', async () => {
    using place = await prepared();
    await expect(
      place.make({
        onProgress: ({ phase }) => phase === 'verifying' && writeFileSync(place.file, 'mine'),
      }),
    ).rejects.toMatchObject({ code: 'FILE_EXISTS' });
    expect(readdirSync(place.stick)).toEqual(['backup.anneal']);
    expect(readFileSync(place.file, 'utf8')).toBe('mine');
  });

  test.each(['trail', 'consents'])('a data folder whose %s are damaged', async (what) => {
    using place = await prepared();
    const db = openSqlite(place.filled.data.dbFile);
    if (what === 'trail') {
      db.exec("DROP TRIGGER audit_no_update; UPDATE audit SET actor = 'eve' WHERE seq = 2");
    } else {
      db.exec(
        "DROP TRIGGER consent_events_no_update; UPDATE consent_events SET purpose = 'other' WHERE id = 1",
      );
    }
    db.close();

    await expect(place.make()).rejects.toMatchObject({ code: 'DATABASE_DAMAGED' });

    expect(readdirSync(place.stick)).toEqual([]);
    expect(left(place.dataDir)).toEqual([]);
  });

  test.each([
    ['a file in it', (dir: string) => writeFileSync(path.join(dir, 'x'), 'mine')],
    ['a folder in it', (dir: string) => mkdirSync(path.join(dir, 'x'))],
    ['a running Anneal in it', (dir: string) => void openDataFolder(dir)],
  ])('a data folder with %s', async (_name, fill) => {
    using place = await prepared();
    await place.make();
    mkdirSync(place.at('full'));
    fill(place.at('full'));
    const before = filesIn(place.dir);

    await expect(
      restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('full') }),
    ).rejects.toMatchObject({ code: 'DATA_FOLDER_NOT_EMPTY' });

    expect(filesIn(place.dir)).toEqual(before);
  });

  test('a file in place of the data folder; an empty folder is taken', async () => {
    using place = await prepared();
    await place.make();
    writeFileSync(place.at('file'), 'mine');
    mkdirSync(place.at('empty'));
    await expect(
      restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('file') }),
    ).rejects.toMatchObject({ code: 'DATA_FOLDER_NOT_EMPTY' });
    await restoreBackup({ ...restoring, file: place.file, dataFolder: place.at('empty') });
    expect(existsSync(place.at('empty', 'anneal.db'))).toBe(true);
  });
});

/** Of the data folder, what a backup may have left. */
const left = (dataDir: string) =>
  existsSync(path.join(dataDir, 'backup')) ? readdirSync(path.join(dataDir, 'backup')) : [];

describe('cancelled', () => {
  test.each(['database', 'copying', 'verifying'])('while it is %s: nothing is left', async (phase) => {
    using place = await prepared();
    const abort = new AbortController();
    await expect(
      place.make({
        signal: abort.signal,
        onProgress: (progress) => progress.phase === phase && abort.abort(),
      }),
    ).rejects.toMatchObject({ code: 'CANCELLED' });
    expect([readdirSync(place.stick), left(place.dataDir)]).toEqual([[], []]);
  });

  test('a restore', async () => {
    using place = await prepared();
    await place.make();
    const before = readdirSync(place.dir);
    const abort = new AbortController();
    await expect(
      restoreBackup({
        ...restoring,
        ...{ file: place.file, dataFolder: place.at('new'), signal: abort.signal },
        onProgress: ({ doneBytes, totalBytes }) => doneBytes * 2 > totalBytes && abort.abort(),
      }),
    ).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(readdirSync(place.dir)).toEqual(before);
  });
});

describe('killed', () => {
  const run = (...args: string[]) => spawnSync(process.execPath, [child, ...args], { encoding: 'utf8' });

  test(
    'a backup, at any step: the file is not there, and the next start clears up',
    async () => {
      using place = await prepared();
      place.filled[Symbol.dispose]();
      const finished = run('backup', place.file, place.dataDir, '1000000');
      expect(finished.stderr).toBe('');
      const steps = 1_000_000 - Number(finished.stdout);
      expect(steps).toBeGreaterThan(20);
      rmSync(place.file);
      for (const step of [1, 2, 5, Math.floor(steps / 2), steps - 3, steps - 1, steps]) {
        expect(run('backup', place.file, place.dataDir, String(step)).signal, `step ${step}`).toBe('SIGKILL');
        expect(existsSync(place.file)).toBe(false);
        const data = openDataFolder(place.dataDir);
        const store = openStore(data.dbFile);
        await createBackups({
          ...{ store, data, logger: silentLogger, emit() {}, afterwards: async () => {} },
          origin: () => place.filled.source.origin,
        });
        store.close();
        expect([readdirSync(place.stick), left(place.dataDir)], `step ${step}`).toEqual([[], []]);
      }
      expect(run('backup', place.file, place.dataDir, '1000000').stderr).toBe('');
      await verifyBackup({ file: place.file, passphrase, workRoot: place.dir });
    },
    timeoutMs,
  );

  test(
    'a restore, at any step: the folder is not there, and the next restore clears up and succeeds',
    async () => {
      using place = await prepared();
      await place.make();
      const target = place.at('new');
      const finished = run('restore', place.file, target, '1000000');
      expect(finished.stderr).toBe('');
      const steps = 1_000_000 - Number(finished.stdout);
      const expected = filesIn(target);
      rmSync(target, { recursive: true });
      for (const step of [1, 2, Math.floor(steps / 2), steps]) {
        expect(run('restore', place.file, target, String(step)).signal, `step ${step}`).toBe('SIGKILL');
        expect(existsSync(target)).toBe(false);
      }
      expect(readdirSync(place.dir).filter((name) => name.endsWith('.restoring'))).toHaveLength(1);
      expect(run('restore', place.file, target, '1000000').stderr).toBe('');
      expect(filesIn(target)).toEqual(expected);
      expect(readdirSync(place.dir).filter((name) => name.endsWith('.restoring'))).toEqual([]);
    },
    timeoutMs,
  );
});

describe('a disk that becomes full', () => {
  /** A small file system; null where this account may not mount one. */
  function smallDisk(at: string, size: string): Disposable | null {
    mkdirSync(at, { recursive: true });
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', at]).status !== 0) return null;
    return { [Symbol.dispose]: () => void spawnSync('umount', ['-l', at]) };
  }

  test.each(['at once', 'in the middle'])('of a backup, %s', async (when) => {
    using place = await prepared({ blobs: 100 });
    using disk = smallDisk(place.at('small'), when === 'at once' ? '1m' : '8m');
    if (disk === null) return;
    let isFilled = false;
    await expect(
      place.make({
        target: place.at('small', 'backup.anneal'),
        onProgress({ phase }) {
          if (phase !== 'copying' || isFilled || when === 'at once') return;
          isFilled = true;
          writeFileSync(place.at('small', 'others'), Buffer.alloc(7_500_000));
        },
      }),
    ).rejects.toMatchObject({
      code: 'DISK_FULL',
      message: expect.stringContaining('that the backup is written to'),
    });
    expect(readdirSync(place.at('small'))).toEqual(isFilled ? ['others'] : []);
    expect(left(place.dataDir)).toEqual([]);
  });

  test.each(['at once', 'in the middle'])('of a restore, %s', async (when) => {
    using place = await prepared({ blobs: 100 });
    await place.make();
    using disk = smallDisk(place.at('small'), when === 'at once' ? '1m' : '8m');
    if (disk === null) return;
    let isFilled = false;
    await expect(
      restoreBackup({
        ...restoring,
        ...{ file: place.file, dataFolder: place.at('small', 'data') },
        onProgress() {
          if (isFilled || when === 'at once') return;
          isFilled = true;
          writeFileSync(place.at('small', 'others'), Buffer.alloc(7_500_000));
        },
      }),
    ).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect(readdirSync(place.at('small'))).toEqual(isFilled ? ['others'] : []);
  });
});
