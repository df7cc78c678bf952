/** One subject, one spelling. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { recordConsent } from '../../core/consent/consent.ts';
import { parsePseudonym, pseudonymSchema } from '../../core/consent/pseudonym.ts';
import { findLookAlikes, looksLikeIdentity } from '../../core/data/tables/look-alikes.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { openStore, type Store } from '../../core/store/store.ts';

describe('a pseudonym', () => {
  test.each([
    [' P001 ', 'P001'],
    ['\u00a0P001\u3000', 'P001'],
    ['Zoe\u0308-7', 'Zo\u00eb-7'],
    ['Max Muster', 'Max Muster'],
    ['=1+1', '=1+1'],
    ['12E5', '12E5'],
    ['1.2', '1.2'],
    ['MAR-A5', 'MAR-A5'],
    ['日本-3', '日本-3'],
  ])('%j is %j', (written, meant) => expect(parsePseudonym(written)).toBe(meant));

  test.each([
    ['', 'is empty'],
    ['P\u200b1', 'cannot be seen (U+200B)'],
    ['\ufeffP1', 'cannot be seen (U+FEFF)'],
    ['P\u00ad1', 'cannot be seen (U+00AD)'],
    ['P\u202e1', 'cannot be seen (U+202E)'],
    ['P\u2066 1', 'cannot be seen (U+2066)'],
    ['P\ufe0f1', 'cannot be seen (U+FE0F)'],
    ['P\u{e0041}1', 'cannot be seen (U+E0041)'],
    ['P\ud8001', 'cannot be seen (U+D800)'],
    ['P\u00a01', 'a space that is not an ordinary one (U+00A0)'],
    ['P\t1', 'a control character (U+0009)'],
    ['P\u00001', 'a control character (U+0000)'],
    ['M\ufffdller', 'lost in an earlier conversion'],
    ['x'.repeat(129), 'longer than 128'],
    ['1.23E+08', 'a spreadsheet has shortened'],
    ['1,23E+08', 'a spreadsheet has shortened'],
    ['5e-05', 'a spreadsheet has shortened'],
    ['1.23E8', 'a spreadsheet has shortened'],
    ['123.0', 'added decimals'],
    ['00457,00', 'added decimals'],
    ['Mar-05', 'is a date'],
    ['05. Mrz', 'is a date'],
    ['5-Mar-26', 'is a date'],
    ['Okt 24', 'is a date'],
    ['déc-05', 'is a date'],
    ['#REF!', 'error message'],
    ['#N/A', 'error message'],
    ['#WERT!', 'error message'],
    ['#NAME?', 'error message'],
    ['########', 'too narrow'],
  ])('%j is refused', (written, words) => {
    expect(() => parsePseudonym(written)).toThrow(words);
    expect(pseudonymSchema.safeParse(written).success).toBe(false);
  });

  test('is the same however its letters are composed', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }), (text) => {
        const parse = (form: string) => pseudonymSchema.safeParse(text.normalize(form)).data;
        expect(parse('NFD')).toBe(parse('NFC'));
      }),
    );
  });
});

describe('pseudonyms that look alike', () => {
  test.each([
    ['p902', 'P902', 'letter case'],
    ['00123', '123', 'leading zeros'],
    ['A-007', 'A-7', 'leading zeros'],
    ['Zo\u00eb', 'Zoe', 'letter case'],
    ['\uff30\uff19', 'P9', 'letter case'],
    ['\u04209', 'P9', 'characters that look the same'],
    ['PO1', 'P01', 'characters that look the same'],
    ['Pl1', 'PI1', 'characters that look the same'],
  ])('%s and %s are asked about', (first, second, why) => {
    expect(findLookAlikes([first, second])).toEqual([{ first, second, why }]);
  });

  test('the names of hospitals’ ordinary series do not', () => {
    const series = Array.from({ length: 3000 }, (_, index) => [
      `P${index}`,
      `P-${index}-A`,
      `S${index}-1`,
    ]).flat();
    expect(findLookAlikes([...series, '1.10', '1.1', '1-11', '11-1'])).toEqual([]);
  });

  test('only those are compared that are asked for', () => {
    expect(findLookAlikes(['p1', 'P1', 'q1', 'Q1'], (one) => one === 'q1')).toHaveLength(1);
  });
});

test.each([
  ['Meier, Anna', 'name'],
  ['MEIER, ANNA', 'name'],
  ['Anna Meier', 'name'],
  ['Jean-Luc de la Fontaine', 'name'],
  ["O'Neil, Pat", 'name'],
  ['Max Mustermann 12.03.1980', 'date'],
  ['12.03.80', 'date'],
  ['1980-03-12', 'date'],
  ['19800312', 'date'],
  ['P0001', null],
  ['ABC-12-34-567', null],
  ['Proband 7', null],
  ['99999999', null],
])('%s looks like %s', (text, as) => expect(looksLikeIdentity(text)).toBe(as));

describe('subjects of an older database', () => {
  let folder: string;
  let store: Store;
  const decomposed = 'Zoe\u0308-7';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'anneal-pseudonym-'));
    const file = join(folder, 'anneal.sqlite');
    openStore(file).close();
    const db = openSqlite(file);
    for (const pseudonym of [decomposed, 'P\u200b1'])
      db.run('INSERT INTO subjects (pseudonym, created_at) VALUES (@pseudonym, @at)', {
        pseudonym,
        at: '2025-01-01T00:00:00.000Z',
      });
    db.close();
    store = openStore(file);
  });
  afterEach(() => {
    store.close();
    rmSync(folder, { recursive: true });
  });

  test('are found in any composition, and no second one is made', () => {
    const old = store.subjects.byPseudonym('Zo\u00eb-7');
    expect(old?.pseudonym).toBe(decomposed);
    expect(store.subjects.upsert({ pseudonym: 'Zo\u00eb-7' }).id).toBe(old?.id);
    expect(store.subjects.count()).toBe(2);
  });

  test('keep their rights although their pseudonym would be refused today', () => {
    const grant = {
      purpose: 'federated-training',
      documentVersion: 'v1',
      validFrom: '2025-01-01',
      recordedBy: 'nurse',
    };
    expect(recordConsent(store, { ...grant, pseudonym: 'P\u200b1' }).kind).toBe('grant');
    expect(() => recordConsent(store, { ...grant, pseudonym: 'P\u200b2' })).toThrow('cannot be seen');
  });
});
