/** Reading tables: the same rows, however they are written; what cannot be read says why. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseTable } from '../../core/data/tables/read-table.ts';
import type { Encoding, ReadTableOptions } from '../../core/data/tables/table.ts';
import { AppError } from '../../core/shared/errors.ts';
import { type SheetCell, writeXlsx } from '../fixtures/xlsx.ts';

const rowsOf = async (bytes: Uint8Array, options: ReadTableOptions = {}) => {
  const { header, rows } = await parseTable(bytes, 'list.csv', options);
  return [header, ...rows.map(({ cells }) => cells)];
};
async function refusal(bytes: Uint8Array, options: ReadTableOptions = {}): Promise<string> {
  try {
    await parseTable(bytes, 'list.csv', options);
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    return `${(error as AppError).message}\n${(error as AppError).action}`;
  }
  throw new Error('it was read');
}

type Writer = (text: string) => Uint8Array;
const utf16 = (text: string, isBigEndian: boolean, mark: string) => {
  const bytes = Buffer.from(mark + text, 'utf16le');
  return isBigEndian ? bytes.swap16() : bytes;
};
const writers: Record<string, Writer> = {
  'UTF-8': (text) => Buffer.from(text),
  'UTF-8 with a mark': (text) => Buffer.from(`\uFEFF${text}`),
  'UTF-16 LE with a mark': (text) => utf16(text, false, '\uFEFF'),
  'UTF-16 BE with a mark': (text) => utf16(text, true, '\uFEFF'),
  'UTF-16 LE': (text) => utf16(text, false, ''),
  'UTF-16 BE': (text) => utf16(text, true, ''),
};

const quoted = (cell: string) => `"${cell.replaceAll('"', '""')}"`;
/** What a table keeps: no spaces around, no text marker, and something in the row. */
const cell = fc
  .string({ unit: fc.constantFrom(...'abcXYZ019 ,;|\t\n"\'=+-@äßéЖ日😀'), maxLength: 12 })
  .map((text) => text.replace(/^[\p{Zs}\t\r\n]+|[\p{Zs}\t\r\n]+$/gu, ''))
  .filter((text) => !/^="|^'[\d=+\-@]/.test(text));
const table = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 0, max: 6 }))
  .chain(([columns, rows]) =>
    fc.tuple(
      // Names of columns are Latin, as they are in tables without a mark of their encoding.
      fc.array(fc.stringMatching(/^[a-z][a-z_]{3,12}$/), { minLength: columns, maxLength: columns }),
      fc.array(fc.array(cell, { minLength: columns, maxLength: columns }), {
        minLength: rows,
        maxLength: rows,
      }),
    ),
  )
  .map(([header, rows]) => [header, ...rows.filter((row) => row.some((text) => text !== ''))]);

describe('text', () => {
  test.each(Object.entries(writers))('%s gives the rows that were written', async (_name, write) => {
    await fc.assert(
      fc.asyncProperty(
        table,
        fc.constantFrom(',', ';', '\t', '|'),
        fc.constantFrom('\n', '\r\n', '\r'),
        fc.boolean(),
        async (rows, delimiter, lineEnd, named) => {
          // With one column nothing but Excel's own line says what the separator is.
          const first = named || rows[0]!.length === 1 ? `sep=${delimiter}${lineEnd}` : '';
          const [header, ...body] = rows;
          const lines = [header!.join(delimiter), ...body.map((row) => row.map(quoted).join(delimiter))];
          const text = first + lines.join(lineEnd) + lineEnd;

          expect(await rowsOf(write(text))).toEqual(rows);
        },
      ),
      { numRuns: 60 },
    );
  });

  test.each([
    ['windows-1252', 'M\u00fcller \u20ac', [0x4d, 0xfc, 0x6c, 0x6c, 0x65, 0x72, 0x20, 0x80]],
    ['windows-1250', '\u0141', [0xa3]],
    ['iso-8859-15', '\u20ac', [0xa4]],
    ['macintosh', '\u00fc', [0x9f]],
  ] as [Encoding, string, number[]][])(
    '%s is read when it is chosen, and only then',
    async (encoding, text, raw) => {
      const bytes = Buffer.concat([Buffer.from('name,x\n'), Buffer.from(raw), Buffer.from(',1\n')]);

      expect(await rowsOf(bytes, { encoding })).toEqual([
        ['name', 'x'],
        [text, '1'],
      ]);
      expect(await refusal(bytes)).toMatch(/line 2: the text is not UTF-8.*windows-1252/s);
    },
  );

  test('an encoding that is chosen wrongly is refused, not turned into other letters', async () => {
    const utf8 = Buffer.from('name\nM\u00fcller\n');
    expect(await refusal(utf8, { encoding: 'windows-1252' })).toContain(
      'the file is UTF-8, not windows-1252',
    );
    expect(await refusal(writers['UTF-16 LE with a mark']!('name\na\n'), { encoding: 'utf-8' })).toContain(
      'says itself that it is utf-16le',
    );
  });

  test('marks that Excel sets for text are dropped, formulas stay text', async () => {
    const lines = ['a;b;c', '="00457";"=""0012""";\'00456', '=1+1;@x;"=SUM(A1)"'];
    expect((await rowsOf(Buffer.from(lines.join('\n')))).slice(1)).toEqual([
      ['00457', '0012', '00456'],
      ['=1+1', '@x', '=SUM(A1)'],
    ]);
  });

  test('what stands before a quotation mark out of place is read', async () => {
    const { rows, brokenOff } = await parseTable(Buffer.from('a,b\n1,2\n3,"4\n5,6\n'), 'list.csv');
    expect(rows.map(({ cells }) => cells)).toEqual([['1', '2']]);
    expect(brokenOff).toMatchObject({ message: 'a quotation mark is out of place' });
  });

  test.each([
    ['nothing', Buffer.alloc(0), /the file is empty/],
    ['an old spreadsheet', Buffer.from('d0cf11e0a1b11ae1', 'hex'), /old kind \(\.xls\)/],
    ['too many columns', Buffer.from(`${'a,'.repeat(1001)}b\n`), /more than 1000 columns/],
  ])('%s is refused', async (_what, bytes, words) => {
    expect(await refusal(bytes)).toMatch(words);
  });
});

describe('spreadsheets', () => {
  const date: SheetCell = { serial: 46_112, date: true };

  test('give texts as they are, dates as dates, numbers as they are written', async () => {
    const bytes = writeXlsx({
      Sheet1: [
        ['subject', 'consent_from', 'count', 'flag'],
        ['00457', date, { number: '1.23E8' }, { boolean: true }],
        ['=1+1', { serial: 46_112.5, date: true }, { number: '7' }, ''],
      ],
    });
    const { header, rows, format } = await parseTable(bytes, 'list.xlsx');

    expect(header).toEqual(['subject', 'consent_from', 'count', 'flag']);
    expect(rows.map(({ line, cells }) => [line, ...cells])).toEqual([
      [2, '00457', '2026-03-31', '1.23E8', 'true'],
      [3, '=1+1', '2026-03-31T12:00:00', '7', ''],
    ]);
    expect(rows[0]!.types).toEqual(
      new Map([
        [1, 'date'],
        [2, 'number'],
      ]),
    );
    expect(format).toMatchObject({ kind: 'spreadsheet', sheet: 'Sheet1' });
  });

  test('have a first sheet and others, which are asked for by name', async () => {
    const bytes = writeXlsx({ One: [['a'], ['1']], Two: [['b'], ['2']] });

    expect((await parseTable(bytes, 'x.xlsx')).notes.join()).toContain('2 sheets; only "One" was read');
    expect(await rowsOf(bytes, { sheet: 'Two' })).toEqual([['b'], ['2']]);
    expect(await refusal(bytes, { sheet: 'Three' })).toMatch(/no sheet "Three".*One, Two/s);
  });

  test('keep the numbers of their rows where rows are empty', async () => {
    const bytes = writeXlsx({ S: [['a', 'b'], [], ['1', '2'], ['', ''], ['3', '4']] });
    const { rows } = await parseTable(bytes, 'x.xlsx');
    expect(rows.map(({ line }) => line)).toEqual([3, 5]);
  });

  test('may have more rows than a call may have arguments, and the widest says how wide the sheet is', async () => {
    const names = Array.from({ length: 130_000 }, (_, index) => [String(index)]);
    const { rows, header } = await parseTable(writeXlsx({ S: [['a'], ...names, ['x', 'y']] }), 'x.xlsx');

    expect(header).toEqual(['a', '']);
    expect(rows).toHaveLength(130_001);
    expect(rows[0]!.cells).toEqual(['0', '']);
    expect(rows.at(-1)!.cells).toEqual(['x', 'y']);
  }, 120_000);

  test('that are small and unpack to much, or name a cell far away, are refused within bounds', async () => {
    const bomb = writeXlsx({ S: [['a'], ['x'.repeat(130 * 2 ** 20)]] });
    expect(bomb.length).toBeLessThan(2 ** 20);
    expect(await refusal(bomb)).toContain('too large');

    const faraway = writeXlsx({ S: [['a'], { row: 1_048_576, column: 'XFD', text: '1' }] });
    expect(await refusal(faraway)).toMatch(/too large|no spreadsheet/);
  }, 120_000);

  test('that are damaged are refused', async () => {
    const bytes = writeXlsx({ S: [['a'], ['1']] });
    for (const broken of [
      bytes.subarray(0, bytes.length / 2),
      Buffer.concat([bytes.subarray(0, 30), Buffer.alloc(900)]),
    ])
      expect(await refusal(broken)).toContain('no spreadsheet that Anneal can read');
  });
});
