import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseLabelsCsv, readLabelsCsv } from '../../core/data/labels-csv.ts';
import { AppError } from '../../core/shared/errors.ts';

const parse = (text: string, allowedLabels?: string[]) =>
  parseLabelsCsv(text, 'labels.csv', { allowedLabels });

async function errorOf(work: () => unknown): Promise<AppError> {
  try {
    await work();
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    return error as AppError;
  }
  throw new Error('nothing was thrown');
}

describe('a labels CSV that is fine', () => {
  test('gives its rows with line numbers, whatever the separator, line ends, BOM and order of columns', () => {
    const comma = 'file,subject,label\na.jpg,s1,x\nsub/b.png,s2,y\n';
    const semicolon = '\uFEFFlabel;File;SUBJECT\r\nx;a.jpg;s1\r\n\r\ny;sub\\b.png;s2\r\n';

    const fromComma = parse(comma);
    const fromSemicolon = parse(semicolon);

    const plain = (rows: typeof fromComma) =>
      rows.map(({ file, subject, label }) => ({ file, subject, label }));
    expect(plain(fromComma)).toEqual([
      { file: 'a.jpg', subject: 's1', label: 'x' },
      { file: 'sub/b.png', subject: 's2', label: 'y' },
    ]);
    expect(plain(fromSemicolon)).toEqual(plain(fromComma));
    expect(fromComma.map(({ line }) => line)).toEqual([2, 3]);
    expect(fromSemicolon.map(({ line }) => line)).toEqual([2, 4]);
  });

  test('reads split, site and consent, with the purpose of Anneal as default', () => {
    const [granted, withdrawn, none, silent] = parse(
      [
        'file,subject,label,split,site,consent,consent_purpose,consent_document,consent_from,consent_expires',
        'a.jpg,s1,x,train,North,granted,,"form; v2",2026-01-01,2030-01-01',
        'b.jpg,s2,x,test,South,withdrawn,research,,,',
        'c.jpg,s3,x,,,none,,,,',
        'd.jpg,s4,x,,,,,,,',
      ].join('\n'),
    );

    expect(granted).toMatchObject({
      split: 'train',
      site: 'North',
      consent: {
        kind: 'granted',
        purpose: 'federated-training',
        documentVersion: 'form; v2',
        validFrom: '2026-01-01',
        expiresAt: '2030-01-01',
      },
    });
    expect(withdrawn).toMatchObject({
      split: 'test',
      consent: { kind: 'withdrawn', purpose: 'research', documentVersion: null },
    });
    expect(none).toMatchObject({ split: null, site: null, consent: { kind: 'none' } });
    expect(silent?.consent).toBeNull();
  });

  test('keeps one consent per subject and purpose, so several purposes are fine', () => {
    const header = 'file,subject,label,consent,consent_purpose';
    const rows = parse(`${header}\na.jpg,s1,x,granted,federated-training\nb.jpg,s1,x,withdrawn,research\n`);
    expect(rows.map(({ consent }) => consent?.kind)).toEqual(['granted', 'withdrawn']);
  });
});

const consentHeader = 'file,subject,label,consent,consent_from,consent_expires';
const bad: [what: string, text: string, message: RegExp][] = [
  ['an empty file', '', /line 1: the file is empty/],
  ['no rows', 'file,subject,label\n', /line 2: there are no rows/],
  ['a missing column', 'file,label\na.jpg,x\n', /line 1: there is no column "subject"/],
  ['a column twice', 'file,subject,label,label\na.jpg,s,x,y\n', /line 1: the column "label" appears twice/],
  ['too few cells', 'file,subject,label\na.jpg,s1,x\nb.jpg,s1\n', /line 3, column "label": .* 2 cells/],
  ['too many cells', 'file,subject,label\na.jpg,s1,x,y\n', /line 2, column "label": .* 4 cells/],
  ['an empty subject', 'file,subject,label\na.jpg,,x\n', /line 2, column "subject": it is empty/],
  [
    'an empty label',
    'file,subject,label\r\na.jpg,s1,x\r\nb.jpg,s1,\r\n',
    /line 3, column "label": it is empty/,
  ],
  [
    'an unknown split',
    'file,subject,label,split\na.jpg,s,x,val\n',
    /line 2, column "split": "val" is neither/,
  ],
  [
    'an unknown consent',
    `${consentHeader}\na.jpg,s,x,perhaps,,\n`,
    /line 2, column "consent": "perhaps" is neither/,
  ],
  [
    'a date that is none',
    `${consentHeader}\na.jpg,s,x,granted,1.2.2026,\n`,
    /column "consent_from": "1\.2\.2026" is not an ISO date/,
  ],
  ['a day that is none', `${consentHeader}\na.jpg,s,x,granted,2026-02-30,\n`, /column "consent_from"/],
  [
    'an end before the start',
    `${consentHeader}\na.jpg,s,x,granted,2026-02-01,2026-01-01\n`,
    /column "consent_expires": the consent ends before/,
  ],
  [
    'two consents of one subject',
    `${consentHeader}\na.jpg,s,x,granted,,2030-01-01\nb.jpg,s,x,granted,,2031-01-01\n`,
    /line 3, column "consent": .*"s" differs from line 2/,
  ],
  [
    'a file twice',
    'file,subject,label\na.jpg,s,x\nb.jpg,s,x\n./a.jpg,s,x\n',
    /line 4, column "file": "a\.jpg" is already in line 2/,
  ],
  [
    'a parent folder',
    'file,subject,label\n../a.jpg,s,x\n',
    /line 2, column "file": "\.\.\/a\.jpg" leads out/,
  ],
  ['a parent folder further in', 'file,subject,label\nb/../../a.jpg,s,x\n', /column "file": .* leads out/],
  [
    'a parent folder in Windows words',
    'file,subject,label\nb\\..\\..\\a.jpg,s,x\n',
    /column "file": .* leads out/,
  ],
  ['an absolute path', 'file,subject,label\n/etc/passwd,s,x\n', /column "file": .* leads out/],
  ['a drive', 'file,subject,label\nC:\\a.jpg,s,x\n', /column "file": .* leads out/],
  [
    'a NUL byte',
    'file,subject,label\na\u0000.jpg,s,x\n',
    /line 2, column "file": "a\?\.jpg" holds a control character/,
  ],
  [
    'a quotation mark left open',
    'file,subject,label\na.jpg,"s,x\n',
    /line \d+: a quotation mark is out of place/,
  ],
];

describe('a labels CSV that is not', () => {
  test.each(bad)('%s is refused, naming file, line and column', async (_what, text, message) => {
    const error = await errorOf(() => parse(text));

    expect(error.code).toBe('CSV_MALFORMED');
    expect(error.message).toMatch(/^labels\.csv, line \d+/);
    expect(error.message).toMatch(message);
  });

  test('a label that the federation does not have is refused with its line', async () => {
    const text = 'file,subject,label\na.jpg,s,x\nb.jpg,s,z\n';

    const error = await errorOf(() => parse(text, ['x', 'y']));

    expect(error.code).toBe('LABEL_UNKNOWN');
    expect(error.message).toBe('labels.csv, line 3: the label "z" is not one of x, y.');
  });
});

describe('the file', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'anneal-csv-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('that is not there is CSV_MISSING, without its folder', async () => {
    const error = await errorOf(() => readLabelsCsv(join(folder, 'none.csv')));

    expect(error.code).toBe('CSV_MISSING');
    expect(error.message).toContain('"none.csv"');
    expect(error.message).not.toContain(folder);
  });

  test('in another encoding is refused with the line of the first wrong byte', async () => {
    const file = join(folder, 'latin1.csv');
    await writeFile(file, Buffer.from('file,subject,label\na.jpg,s1,x\nb.jpg,Bj\xf6rn,x\n', 'latin1'));

    const error = await errorOf(() => readLabelsCsv(file));

    expect(error.code).toBe('CSV_MALFORMED');
    expect(error.message).toBe('latin1.csv, line 3: the text is not UTF-8.');
    expect(error.action).toContain('UTF-8');
  });
});
