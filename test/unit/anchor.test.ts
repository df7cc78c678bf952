/** A database that has lost its end is not used; what was confirmed is not in a log that may lose it. */
import { cpSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { consentStatus, recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { anchorName } from '../../core/store/anchor.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import { flipBit } from '../fixtures/flip-bit.ts';
import { eraseSubject, temporaryFolder } from '../fixtures/store.ts';

const purpose = 'federated-training';
const names = ['anneal.db', 'anneal.db-wal', 'anneal.db-shm', anchorName];

const openIn = (dir: string) =>
  openStore(path.join(dir, 'anneal.db'), { anchorFile: path.join(dir, anchorName) });
const grant = (store: Store, pseudonym: string) =>
  recordConsent(store, {
    ...{ pseudonym, purpose, documentVersion: '1', validFrom: '2026-01-01', recordedBy: 'desk' },
  });
const withdraw = (store: Store, pseudonym: string) =>
  withdrawConsent(store, { pseudonym, recordedBy: 'desk' });
const statusOf = (store: Store, pseudonym: string) =>
  consentStatus(
    store.consentEvents.ofSubject(store.subjects.byPseudonym(pseudonym)!.id),
    purpose,
    new Date().toISOString(),
  );

/** What a power cut leaves. */
function copyOf(from: string, to: string): void {
  for (const name of names)
    if (existsSync(path.join(from, name))) cpSync(path.join(from, name), path.join(to, name));
}

describe('after a confirmed withdrawal', () => {
  test('whatever happens to the log, it is never active again without a word', () => {
    using folder = temporaryFolder();
    const store = openIn(folder.dir);
    grant(store, 'P1');
    store.settings.set('something', 'else');
    withdraw(store, 'P1');

    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(7), fc.boolean(), (at, bit, isGone) => {
        using crashed = temporaryFolder();
        copyOf(folder.dir, crashed.dir);
        const log = path.join(crashed.dir, 'anneal.db-wal');
        if (isGone) rmSync(log, { force: true });
        else if (existsSync(log) && statSync(log).size > 0) flipBit(log, at, bit);
        rmSync(path.join(crashed.dir, 'anneal.db-shm'), { force: true });
        const again = openIn(crashed.dir);
        expect(statusOf(again, 'P1')).toBe('withdrawn');
        again.close();
      }),
      { numRuns: 25 },
    );
    store.close();
  });

  test('also while somebody reads, when the log cannot be emptied: then the start stops', () => {
    using folder = temporaryFolder();
    const store = openIn(folder.dir);
    grant(store, 'P1');
    using reading = readerOf(folder.dir);
    reading.begin();
    withdraw(store, 'P1');
    using crashed = temporaryFolder();
    copyOf(folder.dir, crashed.dir);
    const log = path.join(crashed.dir, 'anneal.db-wal');
    expect(statSync(log).size).toBeGreaterThan(0);
    for (const name of [log, path.join(crashed.dir, 'anneal.db-shm')]) rmSync(name);

    expect(() => openIn(crashed.dir)).toThrow(expect.objectContaining({ code: 'DATABASE_BEHIND' }));

    store.close();
  });
});

test.each<[string, (store: Store) => void]>([
  ['a withdrawal', (store) => void withdraw(store, 'P1')],
  ['an erasure', (store) => void eraseSubject(store, store.subjects.byPseudonym('P1')!.id)],
  [
    'a shorter term',
    (store) =>
      void recordConsent(store, {
        ...{
          pseudonym: 'P1',
          purpose,
          documentVersion: '2',
          validFrom: '2026-01-02',
          expiresAt: '2026-02-01',
        },
        recordedBy: 'desk',
      }),
  ],
])('an older database beside the anchor of %s stops the start', (_what, change) => {
  using folder = temporaryFolder();
  using kept = temporaryFolder();
  const store = openIn(folder.dir);
  grant(store, 'P1');
  store.emptyLog();
  cpSync(path.join(folder.dir, 'anneal.db'), path.join(kept.dir, 'anneal.db'));
  change(store);
  store.close();
  for (const name of names.slice(1, 3)) rmSync(path.join(folder.dir, name), { force: true });
  cpSync(path.join(kept.dir, 'anneal.db'), path.join(folder.dir, 'anneal.db'));

  expect(() => openIn(folder.dir)).toThrow(expect.objectContaining({ code: 'DATABASE_BEHIND' }));
});

test('a database that went on since the anchor was written is right', () => {
  using folder = temporaryFolder();
  const store = openIn(folder.dir);
  grant(store, 'P1');
  const anchor = readFileSync(path.join(folder.dir, anchorName));
  withdraw(store, 'P1');
  store.close();
  writeFileSync(path.join(folder.dir, anchorName), anchor);

  const again = openIn(folder.dir);

  expect(statusOf(again, 'P1')).toBe('withdrawn');
  again.close();
});

test('a damaged anchor is no word against the database, and stops the start with its own name', () => {
  using folder = temporaryFolder();
  const store = openIn(folder.dir);
  grant(store, 'P1');
  store.close();
  const file = path.join(folder.dir, anchorName);
  const whole = readFileSync(file);

  fc.assert(
    fc.property(fc.double({ min: 0, max: 0.98, noNaN: true }), fc.nat(7), (at, bit) => {
      writeFileSync(file, whole);
      flipBit(file, at, bit);
      expect(() => openIn(folder.dir)).toThrow(expect.objectContaining({ code: 'FILE_DAMAGED' }));
    }),
    { numRuns: 60 },
  );
});

test('many withdrawals in one transaction write the anchor once', () => {
  using folder = temporaryFolder();
  const store = openIn(folder.dir);
  grant(store, 'P1');
  const file = path.join(folder.dir, anchorName);
  const before = statSync(file).ino;
  const seen = new Set<number>();

  store.transaction(() => {
    for (let index = 0; index < 200; index++) {
      grant(store, `Q${index}`);
      withdraw(store, `Q${index}`);
      seen.add(statSync(file).ino);
    }
  });

  expect([...seen]).toEqual([before]);
  expect(statSync(file).ino).not.toBe(before);
  store.close();
});

/** Another program that reads the database. */
function readerOf(dir: string) {
  const reader = openStore(path.join(dir, 'anneal.db'));
  let walk: Generator | null = null;
  return {
    begin() {
      walk = reader.audit.raw();
      walk.next();
    },
    [Symbol.dispose]() {
      walk?.return(undefined);
      reader.close();
    },
  };
}
