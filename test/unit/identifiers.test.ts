import { readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadIdentifierKey, openIdentifier, sealIdentifier } from '../../core/consent/identifiers.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const damaged = expect.objectContaining({ code: 'DATABASE_DAMAGED' });

describe('the key for identifiers', () => {
  test('is made once, random, and for this account only', () => {
    using folder = temporaryFolder();
    using other = temporaryFolder();

    const key = loadIdentifierKey(folder.dir);

    expect(key.length).toBe(32);
    expect(Buffer.from(loadIdentifierKey(folder.dir)).equals(key)).toBe(true);
    expect(Buffer.from(loadIdentifierKey(other.dir)).equals(key)).toBe(false);
    expect(readdirSync(folder.dir)).toEqual(['identifiers.key']);
    if (process.platform !== 'win32') {
      expect(statSync(path.join(folder.dir, 'identifiers.key')).mode & 0o777).toBe(0o600);
    }
  });

  test('that is damaged is refused, not replaced', () => {
    using folder = temporaryFolder();
    writeFileSync(path.join(folder.dir, 'identifiers.key'), 'short');

    expect(() => loadIdentifierKey(folder.dir)).toThrow(
      expect.objectContaining({ code: 'DATA_FOLDER_UNUSABLE' }),
    );
  });
});

describe('sealed identifiers', () => {
  const key = new Uint8Array(32).fill(7);

  test('open to the same text, and look different each time', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (text, context) => {
        const sealed = sealIdentifier(key, text, context);

        expect(openIdentifier(key, sealed, context)).toBe(text);
        expect(Buffer.from(sealIdentifier(key, text, context)).equals(sealed)).toBe(false);
      }),
    );
  });

  test('do not hold the text', () => {
    const sealed = Buffer.from(sealIdentifier(key, 'Erika Mustermann', 'P1'));

    expect(sealed.includes('Erika')).toBe(false);
  });

  test('do not open after any changed byte, cut off, with another key, or for another subject', () => {
    const sealed = sealIdentifier(key, 'hospital number 4711', 'P1');

    for (let index = 0; index < sealed.length; index++) {
      const changed = Uint8Array.from(sealed);
      changed[index]! ^= 1;
      expect(() => openIdentifier(key, changed, 'P1')).toThrow(damaged);
    }
    for (const length of [0, 1, 12, 28, sealed.length - 1]) {
      expect(() => openIdentifier(key, sealed.subarray(0, length), 'P1')).toThrow(damaged);
    }
    expect(() => openIdentifier(new Uint8Array(32), sealed, 'P1')).toThrow(damaged);
    expect(() => openIdentifier(key, sealed, 'P2')).toThrow(damaged);
  });
});
