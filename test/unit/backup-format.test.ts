/** The format of a backup: what is damaged, cut off, mixed up, or made by somebody with bad intent, is refused in one sentence, and nothing is written. */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createRunningHash, encodeHead, type Head } from '../../core/backup/entries.ts';
import { createHeader, headerBytes, openHeader } from '../../core/backup/header.ts';
import { openBackup } from '../../core/backup/read-backup.ts';
import { restoreBackup } from '../../core/backup/restore-backup.ts';
import { chunkBytes, createSealedReader, createSealedWriter } from '../../core/backup/sealed-file.ts';
import { verifyBackup } from '../../core/backup/verify-backup.ts';
import { writeBackup } from '../../core/backup/write-backup.ts';
import { databaseVersion } from '../../core/store/migrations.ts';
import { bytesOf, cheap, fillFolder, passphrase, restoring } from '../fixtures/backups.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const folder = temporaryFolder();
const { dir } = folder;
const whole = path.join(dir, 'whole.anneal');
const other = path.join(dir, 'other.anneal');
const sealedBytes = chunkBytes + 16;
let bytes: Buffer;
let number = 0;

beforeAll(async () => {
  using filled = await fillFolder(path.join(dir, 'data'));
  for (const target of [whole, other])
    await writeBackup(filled.source, { target, passphrase, withModels: true, cost: cheap });
  bytes = readFileSync(whole);
});
afterAll(() => folder[Symbol.dispose]());

/** Tries to restore such a file; whatever comes of it, nothing may have been written. */
async function refusal(changed: Buffer, typed = passphrase): Promise<{ code: string; message: string }> {
  number += 1;
  const file = path.join(dir, `changed-${number}.anneal`);
  const parent = path.join(dir, `parent-${number}`);
  writeFileSync(file, changed);
  mkdirSync(parent);
  const dataFolder = path.join(parent, 'data');
  const error = await restoreBackup({ ...restoring, file, dataFolder, passphrase: typed }).then(
    () => null,
    (thrown: { code: string; message: string }) => thrown,
  );
  if (error === null) throw new Error('the backup was restored');
  expect(readdirSync(parent)).toEqual([]);
  expect(error.message).toMatch(/^[A-Z][^.]*\.?[^.]*\.$/);
  await expect(verifyBackup({ file, passphrase: typed, workRoot: parent })).rejects.toThrow(error.message);
  expect(readdirSync(parent)).toEqual([]);
  return error;
}

const flipped = (at: number) => {
  const changed = Buffer.from(bytes);
  changed[at]! ^= 1 << (at % 8);
  return changed;
};

test('the sample is long enough to have several chunks', () => {
  expect(bytes.length).toBeGreaterThan(headerBytes + 3 * sealedBytes);
});

describe('the stream', () => {
  const key = Buffer.alloc(32, 7);
  test.each([1, 100, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes, 3 * chunkBytes + 5])(
    '%i bytes come back as they were, in whatever pieces they are written',
    async (length) => {
      const file = path.join(dir, `stream-${length}`);
      const plain = bytesOf(3, length);
      {
        await using handle = await open(file, 'wx');
        const writer = createSealedWriter(handle, key);
        for (let at = 0, piece = 1; at < length; at += piece, piece = (piece * 3) % 100_003)
          await writer.write(plain.subarray(at, at + piece));
        await writer.finish();
      }
      await using handle = await open(file);
      const reader = createSealedReader(handle, key, { start: 0, size: (await handle.stat()).size });

      expect((await reader.read(length)).equals(plain)).toBe(true);
      expect(await reader.isAtEnd()).toBe(true);
      await expect(reader.read(1)).rejects.toMatchObject({ code: 'BACKUP_UNREADABLE' });
    },
  );

  test('two backups of the same have no chunk in common', () => {
    const others = readFileSync(other);
    expect(others.subarray(headerBytes, headerBytes + 64)).not.toEqual(
      bytes.subarray(headerBytes, headerBytes + 64),
    );
  });
});

describe('a damaged file', () => {
  test.each(Array.from({ length: headerBytes }, (_, at) => at))('byte %i of the header', async (at) => {
    // Damage is never taken for a wrong passphrase.
    expect(await refusal(flipped(at))).toMatchObject({ code: 'BACKUP_UNREADABLE' });
  });

  test.each([0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999])('a bit at %d of the chunks', async (share) => {
    const at = headerBytes + Math.floor(share * (bytes.length - 1 - headerBytes));
    expect(await refusal(flipped(at))).toMatchObject({
      code: 'BACKUP_UNREADABLE',
      message: expect.stringMatching(/^The backup is damaged \d+ % of the way through\.$/),
    });
  });

  test('the tag of every chunk counts', async () => {
    for (let end = headerBytes + sealedBytes; end < bytes.length; end += sealedBytes)
      expect(await refusal(flipped(end - 1))).toMatchObject({ code: 'BACKUP_UNREADABLE' });
    expect(await refusal(flipped(bytes.length - 1))).toMatchObject({ code: 'BACKUP_UNREADABLE' });
  });

  test.each([
    0,
    1,
    20,
    headerBytes - 1,
    headerBytes,
    headerBytes + 1,
    headerBytes + 16,
    headerBytes + 17,
    headerBytes + sealedBytes,
    headerBytes + sealedBytes + 10,
    headerBytes + 2 * sealedBytes,
  ])('cut off after %i bytes', async (length) => {
    expect(await refusal(bytes.subarray(0, length))).toMatchObject({ code: 'BACKUP_UNREADABLE' });
  });

  test('cut off by one byte, and at the end of a chunk: it says so', async () => {
    expect(await refusal(bytes.subarray(0, -1))).toMatchObject({ code: 'BACKUP_UNREADABLE' });
    expect(await refusal(bytes.subarray(0, headerBytes + 2 * sealedBytes))).toMatchObject({
      message: 'The backup is cut off: its end is missing.',
    });
  });

  const chunk = (source: Buffer, index: number) =>
    source.subarray(headerBytes + index * sealedBytes, headerBytes + (index + 1) * sealedBytes);
  const rest = () => bytes.subarray(headerBytes + 2 * sealedBytes);
  const header = () => bytes.subarray(0, headerBytes);
  test.each([
    ['two chunks swapped', () => [header(), chunk(bytes, 1), chunk(bytes, 0), rest()]],
    ['a chunk left out', () => [header(), chunk(bytes, 1), rest()]],
    ['a chunk twice', () => [header(), chunk(bytes, 0), chunk(bytes, 0), chunk(bytes, 1), rest()]],
    ['a chunk of another backup', () => [header(), chunk(readFileSync(other), 0), chunk(bytes, 1), rest()]],
    [
      'the header of another backup',
      () => [readFileSync(other).subarray(0, headerBytes), bytes.subarray(headerBytes)],
    ],
    ['something behind it', () => [bytes, Buffer.from('more')]],
    ['another chunk behind it', () => [bytes, chunk(bytes, 0)]],
    ['the whole of it twice', () => [bytes, bytes]],
    ['zeros in the middle', () => [header(), Buffer.alloc(sealedBytes), chunk(bytes, 1), rest()]],
  ])('%s', async (_name, parts) => {
    expect(await refusal(Buffer.concat(parts()))).toMatchObject({ code: 'BACKUP_UNREADABLE' });
  });

  test('what is no backup at all', async () => {
    for (const text of ['', 'SQLite format 3\0', 'PK\u0003\u0004'.padEnd(500, 'x')])
      expect(await refusal(Buffer.from(text))).toMatchObject({
        message: 'This file is no backup made by Anneal.',
      });
  });
});

describe('the passphrase', () => {
  test.each(['lantern orchid gravel teapo', 'Lantern orchid gravel teapot', `${passphrase} `])(
    'another one, %j, is refused as that, not as damage',
    async (typed) => {
      expect(await refusal(bytes, typed)).toEqual(
        expect.objectContaining({
          code: 'PASSPHRASE_WRONG',
          message: 'This passphrase does not open the backup.',
        }),
      );
    },
  );

  test('the same one composed otherwise opens it', async () => {
    const { bytes: head } = await createHeader('Größe ﬁnden über Brücken', cheap);
    await expect(openHeader(head, 'Größe finden über Brücken'.normalize('NFD'))).resolves.toHaveLength(32);
  });
});

describe('a header of another version, or of bad intent', () => {
  function withHeader(change: (head: Buffer) => void): Buffer {
    const changed = Buffer.from(bytes);
    change(changed);
    const proven = changed.subarray(0, headerBytes - 32);
    createHash('sha256')
      .update(proven)
      .digest()
      .copy(changed, headerBytes - 32);
    return changed;
  }
  test('a newer format is named', async () => {
    expect(await refusal(withHeader((head) => void head.writeUInt16BE(2, 14)))).toMatchObject({
      code: 'BACKUP_UNREADABLE',
      message: 'The backup was written by a newer Anneal (format 2; this version reads format 1).',
    });
  });
  test('format 0 never was', async () => {
    expect(await refusal(withHeader((head) => void head.writeUInt16BE(0, 14)))).toMatchObject({
      message: 'The backup is of the unknown format 0.',
    });
  });
  test.each([
    ['memory', 16, 2 ** 32 - 1],
    ['memory', 16, 0],
    ['passes', 20, 2 ** 32 - 1],
    ['passes', 20, 0],
    ['lanes', 24, 2 ** 32 - 1],
    ['lanes', 24, 0],
  ])('%s: work of years is not begun (byte %i is %i)', async (_what, at, value) => {
    expect(await refusal(withHeader((head) => void head.writeUInt32BE(value, at)))).toMatchObject({
      message: 'The backup asks for more work than any backup of Anneal does.',
    });
  });
});

describe('entries by somebody who knows the passphrase', () => {
  const about: Head = {
    ...{ kind: 'about', id: randomUUID(), madeAt: '2026-11-22T12:00:00.000Z', annealVersion: '0.1.0' },
    ...{ databaseVersion, mode: 'site', name: 'Clinic', federation: 'Faces', withModels: true },
  };
  type Entry = { head: unknown; body?: Buffer; size?: number };
  const hashOf = (body: Buffer) => createHash('sha256').update(body).digest();

  /** Writes them as they are, with an end that fits. */
  async function forge(
    entries: readonly Entry[],
    end: Partial<Record<string, unknown>> | null = {},
  ): Promise<Buffer> {
    const file = path.join(dir, `forged-${randomUUID()}`);
    const header = await createHeader(passphrase, cheap);
    {
      await using handle = await open(file, 'wx');
      await handle.writeFile(header.bytes);
      const writer = createSealedWriter(handle, header.streamKey);
      const running = createRunningHash();
      let [files, total] = [0, 0];
      for (const { head, body } of entries) {
        const encoded = typeof head === 'string' ? raw(head) : encodeHead(head as Head);
        running.update(encoded.subarray(2));
        await writer.write(encoded);
        if (body === undefined) continue;
        files += 1;
        total += body.length;
        running.update(hashOf(body));
        await writer.write(body);
        await writer.write(hashOf(body));
      }
      const fitting = {
        kind: 'end',
        entries: entries.length,
        files,
        bytes: total,
        sha256: running.digest('hex'),
      };
      if (end !== null) await writer.write(encodeHead({ ...fitting, ...end } as Head));
      await writer.finish();
    }
    return readFileSync(file);
  }
  const raw = (text: string) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(Buffer.byteLength(text));
    return Buffer.concat([length, Buffer.from(text)]);
  };

  let database: Entry;
  let contents: Entry[];
  beforeAll(async () => {
    const entries: Entry[] = [];
    await using backup = await openBackup(whole, passphrase);
    for await (const { head, copy } of backup.files()) {
      const parts: Buffer[] = [];
      await copy((part) => void parts.push(Buffer.from(part)));
      entries.push({ head, body: Buffer.concat(parts) });
    }
    [database, ...contents] = entries as [Entry, ...Entry[]];
  });
  const key = (name: string): Entry => ({ head: { kind: 'key', name, size: 3 }, body: Buffer.from('key') });
  const model = (file: string, id = 'tiny'): Entry => ({
    head: { kind: 'model', model: id, file, size: 3 },
    body: Buffer.from('abc'),
  });

  test('what is forged as Anneal writes it is restored: the tests below refuse for the right reason', async () => {
    const file = path.join(dir, 'forged-well.anneal');
    writeFileSync(file, await forge([{ head: about }, database, ...contents, model('a/b.onnx')]));
    const dataFolder = path.join(dir, 'from-forged');

    await restoreBackup({ ...restoring, file, dataFolder });

    expect(readFileSync(path.join(dataFolder, 'models', 'tiny', 'a', 'b.onnx'), 'utf8')).toBe('abc');
  });

  test.each([
    ...[
      '../x',
      '..',
      '.',
      '',
      '/etc/x',
      'a/b',
      'a\\b',
      'A.PEM',
      'a\0b',
      '.hidden',
      'x'.repeat(65),
      'c:x',
    ].map((name) => [`key ${JSON.stringify(name)}`, () => [key(name)]] as const),
    ...[
      '../../x',
      'a/../../x',
      '/x',
      'a//b',
      'a/./b',
      'a\\..\\x',
      'c:/x',
      'nul',
      'a/com1.txt',
      'a/b.',
      'a/ ',
      '',
    ].map((name) => [`file of a model ${JSON.stringify(name)}`, () => [model(name)]] as const),
    ...['..', '.', 'A', '../x', 'x/y', ''].map(
      (id) => [`model ${JSON.stringify(id)}`, () => [model('x', id)]] as const,
    ),
    ['a model with names that differ by case', () => [model('x.bin'), model('X.BIN')]],
    ['a file where a folder is', () => [model('x'), model('x/y')]],
    ['a folder where a file is', () => [model('x/y/z'), model('X/y')]],
    ['a link', () => [{ head: '{"kind":"link","name":"x","target":"/etc/passwd"}' }]],
    [
      'a key with more than a megabyte',
      () => [{ head: { kind: 'key', name: 'x', size: 2 ** 20 + 1 }, body: bytesOf(1, 2 ** 20 + 1) }],
    ],
    [
      'one more property',
      () => [{ head: '{"kind":"key","name":"x","size":3,"mode":511}', body: Buffer.from('key') }],
    ],
    ['no JSON', () => [{ head: 'hello' }]],
    ['a database twice', () => [database]],
    ['something of itself twice', () => [{ head: about }]],
  ] satisfies (readonly [string, () => Entry[]])[])('%s', async (_name, more) => {
    const isKey = (entry: Entry) => (entry.head as { kind?: string }).kind === 'key';
    const keys = more().filter(isKey);
    const others = more().filter((entry) => !isKey(entry));
    const all = [
      { head: about },
      database,
      ...contents.filter(isKey),
      ...keys,
      ...contents.filter((each) => !isKey(each)),
      ...others,
    ];
    const { code } = await refusal(await forge(all));
    expect(code).toBe('BACKUP_UNREADABLE');
    expect(existsSync(path.join(dir, 'x'))).toBe(false);
  });

  test.each([
    ['the same key twice', () => [{ head: about }, database, key('x'), key('x'), ...contents.slice(2)]],
    ['no database', () => [{ head: about }, ...contents]],
    ['nothing of itself', () => [database, ...contents]],
    ['nothing at all', () => []],
    ['keys after the crops', () => [{ head: about }, database, ...contents, key('late')]],
    ['a crop too few', () => [{ head: about }, database, ...contents.slice(0, -1)]],
    [
      'a crop with bytes of another',
      () => [
        { head: about },
        database,
        ...contents.slice(0, -1),
        { ...contents.at(-1)!, body: contents.at(-2)!.body! },
      ],
    ],
    [
      'a database that is none',
      () => [
        { head: about },
        { head: { kind: 'database', size: 5000 }, body: bytesOf(1, 5000) },
        ...contents,
      ],
    ],
    [
      'an empty database',
      () => [{ head: about }, { head: { kind: 'database', size: 0 }, body: Buffer.alloc(0) }, ...contents],
    ],
  ] as (readonly [string, () => Entry[]])[])('%s', async (_name, entries) => {
    expect(await refusal(await forge(entries()))).toMatchObject({ code: 'BACKUP_UNREADABLE' });
  });

  test('an entry that claims to be larger than the world', async () => {
    const bomb = { head: { kind: 'database', size: Number.MAX_SAFE_INTEGER }, body: Buffer.from('small') };
    expect(await refusal(await forge([{ head: about }, bomb]))).toMatchObject({ code: 'BACKUP_UNREADABLE' });
  });

  test.each([
    ['none', null],
    ['too few entries', { entries: 1 }],
    ['too few files', { files: 1 }],
    ['too few bytes', { bytes: 1 }],
    ['another hash', { sha256: '0'.repeat(64) }],
  ])('an end that does not fit: %s', async (_name, end) => {
    expect(await refusal(await forge([{ head: about }, database, ...contents], end))).toMatchObject({
      code: 'BACKUP_UNREADABLE',
    });
  });

  test('a newer database is named as that', async () => {
    const newer = { ...(about as object), databaseVersion: databaseVersion + 1 };
    expect(await refusal(await forge([{ head: newer }, database, ...contents]))).toMatchObject({
      code: 'DATABASE_NEWER',
    });
  });

  test('a database with damaged pages', async () => {
    const body = Buffer.from(database.body!);
    body.fill(0xff, 4096 * 3, 4096 * 6);
    expect(await refusal(await forge([{ head: about }, { ...database, body }, ...contents]))).toMatchObject({
      message: 'The database in the backup is damaged.',
    });
  });

  test('a database whose trail was changed', async () => {
    const body = Buffer.from(database.body!);
    const at = body.lastIndexOf('consent.withdrawn');
    expect(at).toBeGreaterThan(0);
    body.write('consent.withdrawm', at);
    expect(await refusal(await forge([{ head: about }, { ...database, body }, ...contents]))).toMatchObject({
      code: 'BACKUP_UNREADABLE',
    });
  });
});
