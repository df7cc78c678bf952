/** Tables as hospital systems export them: /work/shared/probes/csv, beside the repository; skipped without it. */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { importFolder } from '../../core/data/import-folder.ts';
import type { TableRequest } from '../../core/data/tables/request.ts';
import { AppError } from '../../core/shared/errors.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore, type Store } from '../../core/store/store.ts';

const probes = join(import.meta.dirname, '../../../shared/probes/csv');
const probesOfWorkplace = existsSync(probes) ? probes : '/work/shared/probes/csv';

let folder: string;
let store: Store;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-probe-'));
  store = openStore(join(folder, 'anneal.sqlite'), { now: () => new Date('2026-06-01T12:00:00Z') });
  store.settings.set('site.timeZone', 'Europe/Berlin');
  const images = join(folder, 'images');
  await mkdir(join(images, 'sub'), { recursive: true });
  for (const [at, name] of ['a.png', 'b.png', 'sub/a.png', 'M\u00fcller.png'].entries()) {
    await sharp({ create: { width: 24, height: 24, channels: 3, background: { r: 40 * at, g: 9, b: 7 } } })
      .png()
      .toFile(join(images, name));
  }
  await writeFile(join(images, 'bad.png'), 'no image');
  await copyFile(join(images, 'a.png'), join(folder, 'outside.png'));
  await symlink(join(folder, 'outside.png'), join(images, 'ln.png'));
});
afterEach(async () => {
  store.close();
  await rm(folder, { recursive: true });
});

async function importProbe(name: string, table: TableRequest = {}) {
  try {
    const report = await importFolder({
      ...{ store, table, blobs: createBlobStore(join(folder, 'blobs')) },
      imagesFolder: join(folder, 'images'),
      labelsFile: join(probesOfWorkplace, `${name}-labels.csv`),
      ...{ dataset: 'clinic', alreadyCropped: true, recordedBy: 'data manager' },
    });
    return { report, error: null };
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    return { report: null, error: error as AppError };
  }
}

const subjects = () => store.subjects.pseudonyms();
const terms = () =>
  store.consentEvents.all().map(({ validFrom, expiresAt }) => [validFrom, expiresAt] as const);

/** Subjects that are there afterwards. */
const fine: Record<string, string[]> = {
  comma: ['c1', 'c2'],
  semicolon: ['s1', 's2'],
  tab: ['t1', 't2'],
  bom8: ['b1', 'b2'],
  utf16le_bom: ['u1', 'u2'],
  utf16be_bom: ['u1', 'u2'],
  sep_line: ['x1', 'x2'],
  cr_only: ['r1', 'r2'],
  crlf: ['l1', 'l2'],
  trailing_cols: ['q1', 'q2'],
  trailing_rows: ['v1', 'v2'],
  header_spaces: ['h1', 'h2'],
  header_quoted: ['hq1', 'hq2'],
  quoted_nl: ['qn1', 'qn2'],
  nbsp: ['P900'],
  nfc_nfd_subject: ['Zo\u00eb'],
  formula: ['=1+1', '@x'],
  excel_text_marker: ['00456', '00457'],
  consent_upper: ['cu1', 'cu2'],
  path_win: ['pw1'],
  nfd_file: ['nf1'],
  file_space: ['fs1'],
  one_bad_of_two: ['ob1', 'ob2'],
};

/** Code, and what the sentence or its advice must say. */
const refused: Record<string, [code: string, words: RegExp]> = {
  cp1252: ['CSV_MALFORMED', /line 2: the text is not UTF-8.*--encoding windows-1252/s],
  cp1252_semicolon_excel: ['CSV_MALFORMED', /line 2: the text is not UTF-8.*--encoding windows-1252/s],
  trailing_comma_rows_only: [
    'CSV_MALFORMED',
    /line 2.*5 cells, but there are 4 column names.*1 more problem/,
  ],
  short_row: ['CSV_MALFORMED', /line 2.*3 cells, but there are 4/],
  dup_header: ['CSV_MALFORMED', /line 1: the column "label" appears twice/],
  header_german: ['IMPORT_UNCONFIRMED', /"Datei" for file, "Patient" for subject.*--map "file=Datei/s],
  no_header: ['CSV_MALFORMED', /no column "file" and no "subject" and no "label"/],
  bad_quote: ['CSV_MALFORMED', /line 3: a quotation mark is out of place/],
  lead_zero: ['IMPORT_UNCONFIRMED', /"00123" and "123" one subject or two/],
  case_subject: ['IMPORT_UNCONFIRMED', /are "p902" and "P902" one subject or two/],
  consent_yes: ['IMPORT_UNCONFIRMED', /"1" for granted/],
  date_de: ['CSV_MALFORMED', /"31\.03\.2026" is not an ISO date.*"--dates dd\.mm\.yyyy"/],
  date_us: ['CSV_MALFORMED', /"3\/31\/2026" is not an ISO date.*"--dates mm\/dd\/yyyy"/],
  date_excel_serial: ['CSV_MALFORMED', /"46112" is not an ISO date.*"--dates excel"/],
  date_0229: ['CSV_MALFORMED', /"2026-02-29" is not an ISO date/],
  date_sql: ['CSV_MALFORMED', /"2026-03-31 00:00:00" is not an ISO date/],
  date_0000: ['CSV_MALFORMED', /"0000-00-00" is not an ISO date/],
  path_abs: ['CSV_MALFORMED', /leads out of the image folder/],
  path_up: ['CSV_MALFORMED', /leads out of the image folder/],
  path_unc: ['CSV_MALFORMED', /leads out of the image folder/],
  empty: ['CSV_MALFORMED', /the file is empty/],
  header_only: ['CSV_MALFORMED', /no rows below the column names/],
  xlsx: ['CSV_MALFORMED', /no spreadsheet that Anneal can read.*CSV UTF-8/s],
  one_col: ['CSV_MALFORMED', /no column "subject" and no "label"/],
  subject_name_like: ['IMPORT_UNCONFIRMED', /dates of birth.*--accept-warnings/s],
  nullbyte: ['CSV_MALFORMED', /line 2, column "subject".*control character/],
  dir_as_file: ['IMAGES_MISSING|', /sub/],
  case_file: ['IMAGES_MISSING|', /A\.PNG/],
  symlink: ['|', /ln\.png.*leads out/],
};

describe.skipIf(!existsSync(probesOfWorkplace))('tables of hospitals', () => {
  test.each(Object.entries(fine))('%s is read as it is meant', async (name, expected) => {
    const { report, error } = await importProbe(name);

    expect(error).toBeNull();
    expect(subjects()).toEqual(expected);
    expect(report!.imported).toBeGreaterThan(0);
  });

  test.each(Object.entries(refused))('%s is not, and the sentence says why', async (name, [code, words]) => {
    const { report, error } = await importProbe(name);

    // One file of its own is set aside where others could be imported; here it is the only one.
    const said =
      error === null
        ? report!.setAside.map(({ reason, sourceName }) => `${sourceName} ${reason}`).join()
        : '';
    if (error === null) expect(code).toMatch(/\|$/);
    else expect(code.split('|')).toContain(error.code);
    expect(error === null ? said : `${error.message}\n${error.action}`).toMatch(words);
    expect(store.images.list({ status: 'ready' })).toEqual([]);
  });

  test.each([
    ['date_de', { dates: 'dd.mm.yyyy' }],
    ['date_us', { dates: 'mm/dd/yyyy' }],
    ['date_excel_serial', { dates: 'excel' }],
  ] as const)('%s is read when a person says how dates are written', async (name, request) => {
    expect((await importProbe(name, request)).error).toBeNull();
    // 31 March 2026 to 31 March 2027 in Berlin, the last day included.
    expect(terms()).toEqual([['2026-03-30T22:00:00.000Z', '2027-03-31T22:00:00.000Z']]);
  });

  test.each([
    ['date_iso_z', '2026-03-31T10:00:00.000Z', '2027-03-31T08:00:00.000Z'],
    ['date_iso_nooffset', '2026-03-31T08:00:00.000Z', '2027-03-31T22:00:00.000Z'],
    // Not before the last day of March 2026, and not after the first of March 2030.
    ['date_fhir_month', '2026-03-30T22:00:00.000Z', '2030-03-01T23:00:00.000Z'],
    ['date_9999', '2026-03-30T22:00:00.000Z', '9999-12-31T23:00:00.000Z'],
    ['same_day', '2026-03-30T22:00:00.000Z', '2026-03-31T22:00:00.000Z'],
  ])('%s has the term that is meant', async (name, from, until) => {
    expect((await importProbe(name)).error).toBeNull();
    expect(terms()).toEqual([[from, until]]);
  });

  test.each([
    ['cp1252', { encoding: 'windows-1252' }, ['M\u00fcller1', 'M\u00fcller2']],
    ['lead_zero', { same: { '00123': '123' } }, ['123']],
    ['lead_zero', { distinct: [['123', '00123']] }, ['00123', '123']],
    ['case_subject', { same: { p902: 'P902' } }, ['P902']],
    ['header_german', { acceptMapping: true }, ['g1']],
    [
      'header_german',
      { map: { file: 'Datei', subject: 'Patient', label: 'Klasse', consent: 'Einwilligung' } },
      ['g1'],
    ],
    ['consent_yes', { values: { consent: { '1': 'granted' } } }, ['cy1', 'cy2']],
    ['subject_name_like', { acceptWarnings: true }, ['Max Mustermann 12.03.1980']],
  ] as [string, TableRequest, string[]][])('%s with %j is imported', async (name, request, expected) => {
    expect((await importProbe(name, request)).error).toBeNull();
    expect(subjects()).toEqual(expected);
  });
});
