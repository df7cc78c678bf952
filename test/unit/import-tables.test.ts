/** What a table does to the store: consents before and apart from images, questions, memory, previews. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { consentStatus, recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { importConsentTable } from '../../core/data/consent-table.ts';
import { importFolder } from '../../core/data/import-folder.ts';
import { type ImportPreview, previewImport } from '../../core/data/import-preview.ts';
import type { TableRequest } from '../../core/data/tables/request.ts';
import { AppError } from '../../core/shared/errors.ts';
import { createRandom } from '../../core/shared/random.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import { eraseSubject } from '../fixtures/store.ts';

let folder: string;
let store: Store;
const purpose = 'federated-training';
let now = new Date('2026-06-01T12:00:00Z');
beforeEach(async () => {
  now = new Date('2026-06-01T12:00:00Z');
  folder = await mkdtemp(join(tmpdir(), 'anneal-table-'));
  await mkdir(join(folder, 'images'));
  store = openStore(join(folder, 'anneal.sqlite'), { now: () => now });
  store.settings.set('site.timeZone', 'Europe/Berlin');
});
afterEach(async () => {
  store.close();
  await rm(folder, { recursive: true });
});

async function image(name: string, seed: number): Promise<void> {
  const random = createRandom(seed);
  const pixels = Uint8Array.from({ length: 24 * 24 * 3 }, () => random.integer(256));
  await sharp(pixels, { raw: { width: 24, height: 24, channels: 3 } })
    .png()
    .toFile(join(folder, 'images', name));
}
async function tableFile(lines: readonly string[]): Promise<string> {
  const file = join(folder, 'list.csv');
  await writeFile(file, `${lines.join('\n')}\n`);
  return file;
}
const importLines = async (lines: readonly string[], table: TableRequest = {}) =>
  importFolder({
    ...{ store, table, blobs: createBlobStore(join(folder, 'blobs')), labelsFile: await tableFile(lines) },
    imagesFolder: join(folder, 'images'),
    ...{ dataset: 'clinic', alreadyCropped: true, recordedBy: 'data manager' },
  });
const importConsents = async (lines: readonly string[], request: TableRequest = {}) =>
  importConsentTable({ store, request, file: await tableFile(lines), recordedBy: 'data manager' });
const preview = async (lines: readonly string[], request: TableRequest = {}): Promise<ImportPreview> =>
  previewImport({
    ...{ store, request, file: await tableFile(lines), kind: 'images' },
    imagesFolder: join(folder, 'images'),
  });
async function errorOf(work: Promise<unknown>): Promise<AppError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(AppError);
  return error as AppError;
}
const grant = (pseudonym: string, of = purpose) =>
  recordConsent(store, {
    ...{ pseudonym, purpose: of, documentVersion: 'v1', validFrom: '2026-01-01', recordedBy: 'nurse' },
  });
const statusOf = (pseudonym: string, of = purpose) =>
  consentStatus(store.consentEvents.ofSubject(store.subjects.byPseudonym(pseudonym)!.id), of, store.now());

test('a subject that was erased comes back only when a person says so, whatever else the table holds', async () => {
  const lines = ['file,subject,label,consent', 'a.png,P1,x,granted', 'b.png,P2,x,granted'];
  await image('a.png', 1);
  await image('b.png', 2);
  grant('P1');
  eraseSubject(store, store.subjects.byPseudonym('P1')!.id);

  const shown = await preview(lines);
  const refused = await errorOf(importLines(lines));
  const nobody = store.subjects.count();
  const consents = await importConsents(['subject,consent', 'P1,withdrawn']);
  const report = await importLines(lines, { again: true });

  expect(shown.blocked).toMatchObject({ code: 'SUBJECT_ERASED' });
  expect(refused).toMatchObject({ code: 'SUBJECT_ERASED' });
  expect(refused.message).toMatch(/"P1" was erased here on 2026-06-01/);
  expect(nobody).toBe(0);
  expect(consents.unknown).toEqual(['P1']);
  expect(report.imported).toBe(2);
  expect(statusOf('P1')).toBe('active');
  expect(store.audit.newestOf('subject.readmitted')).toMatchObject({
    actor: 'data manager',
    details: { subject: store.subjects.refOf('P1') },
  });
});

describe('withdrawals', () => {
  test.each([
    ['another row', ['file,subject,label,consent', 'a.png,P1,x,withdrawn', ',P2,x,granted']],
    ['the same row', ['file,subject,label,consent', '../a.png,P1,,withdrawn']],
    ['the date of its row', ['file,subject,label,consent,consent_from', 'a.png,P1,x,withdrawn,soon']],
    [
      'an open quotation mark below',
      ['file,subject,label,consent', 'a.png,P1,x,withdrawn', 'b.png,"P2,x,granted'],
    ],
    [
      'an open question',
      ['file,subject,label,consent', 'a.png,P1,x,withdrawn', 'b.png,p7,x,', 'c.png,P7,x,'],
    ],
    [
      'a word that nobody knows',
      ['file,subject,label,consent', 'a.png,P1,x,withdrawn', 'b.png,P2,x,perhaps'],
    ],
  ])('count although %s is wrong, and the message says so', async (_what, lines) => {
    grant('P1');

    const error = await errorOf(importLines(lines));

    expect(error.message).toContain('1 withdrawal of the table was recorded all the same.');
    expect(statusOf('P1')).toBe('withdrawn');
    expect(store.consentEvents.all()).toHaveLength(2);
    expect(store.subjects.pseudonyms(), 'nothing else is recorded').toEqual(['P1']);
  });

  test('count before any image is opened', async () => {
    grant('P1');
    const error = await errorOf(importLines(['file,subject,label,consent', 'gone.png,P1,x,withdrawn']));

    expect(error.code).toBe('IMAGES_MISSING');
    expect(statusOf('P1')).toBe('withdrawn');
  });

  test('count in the words of the hospital, but not while it is a guess where they stand', async () => {
    grant('P1');
    const lines = ['Datei;Patient;Klasse;Einwilligung', 'a.png;P1;x;widerrufen'];

    expect((await errorOf(importLines(lines))).message).not.toContain('recorded all the same');
    expect(statusOf('P1')).toBe('active');

    await image('a.png', 1);
    const report = await importLines(lines, { acceptMapping: true });
    expect(report).toMatchObject({ withdrawn: ['P1'], withoutConsent: 1 });
  });

  test('without a purpose are from every purpose, with one from that', async () => {
    for (const one of [purpose, 'research']) for (const who of ['P1', 'P2']) grant(who, one);

    await importConsents(['subject,consent,consent_purpose', 'P1,withdrawn,', 'P2,withdrawn,research']);

    expect([statusOf('P1'), statusOf('P1', 'research')]).toEqual(['withdrawn', 'withdrawn']);
    expect([statusOf('P2'), statusOf('P2', 'research')]).toEqual(['active', 'withdrawn']);
  });

  test.each([0, 1])('win over a grant of another row, in either order (%i)', async (order) => {
    const rows = ['a.png,P1,x,granted,v9,2026-05-30', 'b.png,P1,x,withdrawn,,'];
    await Promise.all([image('a.png', 1), image('b.png', 2)]);

    const report = await importLines([
      'file,subject,label,consent,consent_document,consent_from',
      ...(order === 0 ? rows : rows.toReversed()),
    ]);

    expect(report).toMatchObject({ imported: 2, withoutConsent: 2, contradictions: ['P1'] });
    expect(store.consentEvents.all().map(({ kind }) => kind)).toEqual(['withdraw']);
  });
});

describe('a list of consents', () => {
  test('needs no images; unknown subjects are listed and not made', async () => {
    for (const who of ['P1', 'P2', 'P3']) grant(who);
    withdrawConsent(store, { pseudonym: 'P2', recordedBy: 'nurse' });
    withdrawConsent(store, { pseudonym: 'P3', recordedBy: 'nurse' });
    now = new Date('2026-06-20T12:00:00Z');

    const report = await importConsents([
      'subject,consent,consent_document,consent_from,ward',
      'P1,withdrawn,,,A',
      'P2,granted,v1,2026-01-01,A',
      'P3,granted,v2,2026-06-15,A',
      'P4,granted,v2,2026-06-15,A',
    ]);

    expect(report).toEqual({
      ...{ granted: [], withdrawn: ['P1'], stillWithdrawn: ['P2'], reconsented: ['P3'] },
      ...{ unknown: ['P4'], contradictions: [] },
    });
    expect(store.subjects.pseudonyms()).toEqual(['P1', 'P2', 'P3']);
    const details = JSON.stringify(store.audit.page().map((row) => row.details));
    for (const who of ['P1', 'P2', 'P3', 'P4']) expect(details).not.toContain(`"${who}"`);
  });

  test('records all grants or none', async () => {
    store.subjects.upsert({ pseudonym: 'P1' });
    store.subjects.upsert({ pseudonym: 'P2' });
    const lines = ['subject,consent,consent_from', 'P1,granted,2026-01-01', 'P2,granted,tomorrow'];

    expect((await errorOf(importConsents(lines))).message).toContain('"tomorrow" is not an ISO date');
    expect(store.consentEvents.all()).toEqual([]);
  });

  test('keeps a history of grants, and asks about two that begin together', async () => {
    store.subjects.upsert({ pseudonym: 'P1' });
    const header = 'subject,consent,consent_document,consent_from,consent_expires';

    await importConsents([
      header,
      'P1,granted,v2,2026-05-01,2027-01-01',
      'P1,granted,v1,2024-01-01,2030-01-01',
    ]);
    expect(store.consentEvents.all().map(({ documentVersion }) => documentVersion)).toEqual(['v1', 'v2']);

    const both = [header, 'P1,granted,v3,2026-05-30,', 'P1,granted,v4,2026-05-30,'];
    expect((await errorOf(importConsents(both))).message).toContain('differs from line 2');
  });

  test('in place of a table of images is named as what it is', async () => {
    const error = await errorOf(importLines(['subject,consent', 'P1,withdrawn']));
    expect(error.action).toContain('anneal consent import');
  });
});

describe('what a person says', () => {
  const lines = ['Datei;Patient;Klasse;Einwilligung;am', 'a.png;P1;x;1;31.03.2026', 'b.png;P2;x;0;'];
  const said: TableRequest = {
    map: { consent_from: 'am' },
    dates: 'dd.mm.yyyy',
    acceptMapping: true,
  };

  test('is remembered for the next table with the same columns, and for no other', async () => {
    await Promise.all([image('a.png', 1), image('b.png', 2), image('c.png', 3)]);
    expect(await importLines(lines, said)).toMatchObject({ imported: 2, withoutConsent: 1 });

    expect(await importLines([lines[0]!, 'c.png;P3;x;1;01.04.2026'])).toMatchObject({
      imported: 1,
      withoutConsent: 0,
    });

    await image('d.png', 4);
    expect(await importLines([lines[0]!, 'd.png;P4;x;1;02.04.2026'])).toMatchObject({
      imported: 1,
      withoutConsent: 0,
    });

    const others = ['Datei;Patient;Klasse;Einwilligung;vom', 'c.png;P3;x;1;2026-04-01'];
    expect((await errorOf(importLines(others))).code).toBe('IMPORT_UNCONFIRMED');
  });

  test('about two spellings is remembered, without their names in the settings', async () => {
    await Promise.all([image('a.png', 1), image('b.png', 2), image('c.png', 3)]);
    await importLines(['file,subject,label', 'a.png,P902,x']);
    const again = ['file,subject,label', 'b.png,p902,x'];
    expect((await errorOf(importLines(again))).message).toContain('"P902" and "p902" one subject or two');

    await importLines(again, { same: { p902: 'P902' } });
    expect(await importLines(['file,subject,label', 'c.png,p902,x'])).toMatchObject({ imported: 1 });

    expect(store.subjects.pseudonyms()).toEqual(['P902']);
    expect(store.images.list().map(({ pseudonym }) => pseudonym)).toEqual(['P902', 'P902', 'P902']);
    store.close();
    const database = await readFile(join(folder, 'anneal.sqlite'), 'latin1');
    store = openStore(join(folder, 'anneal.sqlite'));
    expect(database).not.toContain('p902');
  });

  test('that two are distinct holds, until it is said otherwise', async () => {
    await Promise.all([image('a.png', 1), image('b.png', 2)]);
    const both = ['file,subject,label', 'a.png,P1,x', 'b.png,p1,x'];
    await importLines(both, { distinct: [['P1', 'p1']] });

    expect(await importLines(both)).toMatchObject({ alreadyThere: 2 });
    const { questions, rows } = await preview(both, { same: { p1: 'P1' } });
    expect([questions, rows.map(({ subject }) => subject)]).toEqual([[], ['P1', 'P1']]);
  });

  test('about a pseudonym that is nowhere is refused', async () => {
    const error = await errorOf(preview(['file,subject,label', 'a.png,P1,x'], { same: { P2: 'P1' } }));
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('"P2"') });
  });

  test('on columns is checked', async () => {
    const map = { file: 'file', subject: 'nobody', label: 'file' };
    const { problems } = await preview(['file,subject,label', 'a.png,P1,x'], { map });
    expect(problems.map(({ message }) => message)).toEqual([
      'there is no column "nobody", which was named for "subject".',
      'the column "file" is named for "file" and for "label".',
    ]);
  });
});

describe('a table of REDCap', () => {
  test('has its own columns, of which the needed ones are found', async () => {
    const { columns, unused, words, blocked } = await preview([
      'record_id,redcap_event_name,photo_file,diagnosis,consent___1,consent_date',
      '1,baseline,a.png,x,1,2026-03-31',
      '1,follow_up,b.png,x,,',
      '2,baseline,c.png,x,0,',
    ]);

    expect(Object.fromEntries(columns.map(({ field, column }) => [field, column]))).toEqual({
      ...{ file: 'photo_file', subject: 'record_id', label: 'diagnosis' },
      ...{ consent: 'consent___1', consent_from: 'consent_date' },
    });
    expect(unused).toEqual(['redcap_event_name']);
    expect(words.map(({ word, meaning, needsConfirmation }) => [word, meaning, needsConfirmation])).toEqual([
      ['1', 'granted', true],
      ['0', 'none', true],
    ]);
    expect(blocked?.code).toBe('IMPORT_UNCONFIRMED');
  });
});

describe('a preview', () => {
  const lines = [
    'file,subject,label,split,consent,consent_from',
    'a.png,P1,x,train,granted,2026-03-31',
    'gone.png,P2,y,,granted,',
    'c.png,=cmd,z,val,granted,31.3.2026',
    ',#REF!,,,maybe,',
    'd.png,p1,x,,withdrawn,',
  ];

  test('tells everything that is wrong, as a list and as a CSV that no spreadsheet calculates', async () => {
    await Promise.all([image('a.png', 1), image('d.png', 2)]);
    const found = await preview(lines);

    expect(found.problems.map(({ line, column, blocks }) => [line, column, blocks])).toEqual([
      [3, 'file', false],
      [4, 'consent_from', true],
      [4, 'split', true],
      [5, 'subject', true],
      [5, 'consent', true],
      [5, 'file', true],
      [5, 'label', true],
    ]);
    expect(found.problemCount).toBe(7);
    const rows = parse(found.problemsCsv!, { bom: true }) as string[][];
    expect(rows).toHaveLength(8);
    expect(found).toMatchObject({
      ...{ rowCount: 5, goodRows: 3, missingFiles: 1 },
      byLabel: { x: { train: 1, test: 0, open: 1 }, y: { train: 0, test: 0, open: 1 } },
      subjects: { new: 4, known: 0 },
    });
    const formulas = await preview(['file,subject,label', 'a.png,P1,x', '=cmd,P2,', '@x,P3,']);
    const values = (parse(formulas.problemsCsv!, { bom: true }) as string[][]).flat();
    for (const value of values) expect(value).not.toMatch(/^[=@+-]/);
  });

  test('shows the first images small, and why one cannot be shown', async () => {
    await image('a.png', 1);
    await writeFile(join(folder, 'images', 'bad.png'), 'no image');
    const { thumbnails } = await preview(['file,subject,label', 'a.png,P1,x', 'bad.png,P2,x']);

    const [first, second] = thumbnails;
    const picture = Buffer.from(first!.picture!.replace('data:image/jpeg;base64,', ''), 'base64');
    expect(await sharp(picture).metadata()).toMatchObject({ format: 'jpeg', width: 24, height: 24 });
    expect(second).toMatchObject({ picture: null, reason: expect.stringContaining('"bad.png"') });
  });

  test('says what would become of consents', async () => {
    for (const who of ['K1', 'K2', 'K3', 'K4']) grant(who);
    for (const who of ['K2', 'K3']) withdrawConsent(store, { pseudonym: who, recordedBy: 'nurse' });
    now = new Date('2026-06-20T12:00:00Z');
    const found = await preview([
      'file,subject,label,consent,consent_document,consent_from',
      'a.png,K1,x,granted,v1,2026-01-01',
      'b.png,K2,x,granted,v1,2026-01-01',
      'c.png,K3,x,granted,v2,2026-06-10',
      'd.png,K4,x,withdrawn,,',
      'e.png,N1,x,granted,v1,2026-01-01',
    ]);

    expect(found.consents).toEqual({
      ...{ granted: 1, withdrawn: 1, reconsented: 1, stillWithdrawn: 1, known: 1, none: 0 },
    });
    expect(found.clearWithdrawals).toBe(1);
  });

  test('counts the withdrawals that the import records although the table is blocked, and no other', async () => {
    for (const who of ['U1', 'U2']) store.subjects.upsert({ pseudonym: who });
    for (const who of ['K1', 'K2']) grant(who);
    for (const who of ['U2', 'K2']) withdrawConsent(store, { pseudonym: who, recordedBy: 'nurse' });
    const table = [
      'subject,consent,consent_purpose',
      ...['U1,withdrawn,', 'U2,withdrawn,', 'K1,withdrawn,', 'K2,withdrawn,', 'K1,nonsense,'],
    ];
    const file = await tableFile(table);
    const found = await previewImport({ store, kind: 'consents', file, imagesFolder: null });
    const before = store.consentEvents.all().length;
    const error = await errorOf(importConsents(table));

    expect(found.blocked?.code).toBe('CSV_MALFORMED');
    expect(found.clearWithdrawals).toBe(2);
    expect(error.message).toContain('2 withdrawals of the table were recorded all the same.');
    expect(store.consentEvents.all()).toHaveLength(before + 2);
  });

  test('a quotation mark that swallows rows makes too long a cell, in whatever column: nothing is granted', async () => {
    for (const who of ['L1', 'L2']) grant(who);
    const swallowed = Array.from({ length: 800 }, (_, index) => `L${index},granted,`).join('\n');
    const table = (note: string) => [
      'subject,consent,consent_document,note',
      ...['L1,withdrawn,,', 'L3,granted,v1,', `L2,withdrawn,,"${note}"`],
    ];
    const file = await tableFile(table(swallowed));
    const found = await previewImport({ store, kind: 'consents', file, imagesFolder: null });
    const short = await tableFile(table('x'.repeat(10_000)));
    const fits = await previewImport({ store, kind: 'consents', file: short, imagesFolder: null });

    expect(swallowed.length).toBeGreaterThan(10_000);
    expect(found.blocked?.code).toBe('CSV_MALFORMED');
    expect(found.problems).toMatchObject([
      { column: 'note', message: expect.stringContaining('longer than 10000 characters') },
    ]);
    // Withdrawals wait for nothing.
    expect(found.clearWithdrawals).toBe(2);
    expect(fits.problems).toEqual([]);
  });

  test('warns of names, birth dates, and of "no" where a consent is active', async () => {
    grant('P1');
    const table = [
      'file,subject,label,consent',
      'a.png,P1,x,no',
      'b.png,"Meier, Anna",x,',
      'c.png,12.03.1980,x,',
    ];
    const { warnings, blocked } = await preview(table);
    expect(warnings.map(({ kind, lines }) => [kind, lines])).toEqual([
      ['names', [3]],
      ['dates', [4]],
      ['consent ends', [2]],
    ]);
    expect(blocked?.code).toBe('IMPORT_UNCONFIRMED');
    expect((await preview(table, { acceptWarnings: true })).blocked?.code).toBe('IMAGES_MISSING');
  });

  test('records nothing, whatever is said', async () => {
    await image('a.png', 1);
    grant('P1');
    const dump = () =>
      JSON.stringify([
        store.audit.page(),
        store.consentEvents.all(),
        store.subjects.list(),
        store.images.list(),
      ]);
    store.close();
    const before = await readFile(join(folder, 'anneal.sqlite'));
    store = openStore(join(folder, 'anneal.sqlite'), { now: () => now });
    const rows = dump();
    const table = ['Datei;Patient;Klasse;Einwilligung', 'a.png;P1;x;withdrawn', 'b.png;p1;x;1'];

    await preview(table, { acceptMapping: true, same: { p1: 'P1' }, acceptWarnings: true });
    await preview(table);

    expect(dump()).toBe(rows);
    store.close();
    expect(await readFile(join(folder, 'anneal.sqlite'))).toEqual(before);
    store = openStore(join(folder, 'anneal.sqlite'));
  });

  test('is bounded: many problems are counted', async () => {
    const many = Array.from({ length: 1500 }, (_, index) => `f${index}.png,,x`);
    const found = await preview(['file,subject,label', ...many]);
    expect([found.problems.length, found.problemCount]).toEqual([1000, 1500]);
    expect(found.problemsCsv).toContain('And 500 more problems.');
  });
});
