/** Options of commands that read a table, as people type them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addTableOptions, type TableOptions, tableRequestOf } from '../../core/cli/table-options.ts';
import { isTable } from '../../core/data/tables/is-table.ts';
import { tableRequestSchema } from '../../core/data/tables/request.ts';

function requestOf(...typed: string[]) {
  const command = addTableOptions(new Command())
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  command.parse(typed, { from: 'user' });
  return tableRequestSchema.parse(tableRequestOf(command.opts<TableOptions>()));
}

test.each([
  [['--map', 'file=Datei,subject=PatientenID'], { map: { file: 'Datei', subject: 'PatientenID' } }],
  [
    ['--map', 'file=Bild, klein,subject=Patient', '--map', 'split='],
    { map: { file: 'Bild, klein', subject: 'Patient', split: null } },
  ],
  [
    ['--values', 'consent:ja=granted,nein=none,split:lern=train'],
    { values: { consent: { ja: 'granted', nein: 'none' }, split: { lern: 'train' } } },
  ],
  [['--same', 'p902=P902', '--same', 'p3=P3'], { same: { p902: 'P902', p3: 'P3' } }],
  [['--distinct', 'p902,P902'], { distinct: [['p902', 'P902']] }],
  [
    ['--dates', 'dd.mm.yyyy', '--encoding', 'windows-1252', '--sheet', 'Liste'],
    { dates: 'dd.mm.yyyy', encoding: 'windows-1252', sheet: 'Liste' },
  ],
])('%j is understood', (typed, expected) => expect(requestOf(...typed)).toMatchObject(expected));

test.each([
  [['--map', 'nothing=Datei']],
  [['--map', 'file']],
  [['--values', 'consent:ja=perhaps']],
  [['--values', 'split:ja=granted']],
  [['--same', 'p902']],
  [['--same', 'a=b=c']],
  [['--distinct', 'p902']],
  [['--dates', 'yyyy/dd/mm']],
  [['--encoding', 'ascii']],
])('%j is refused with a sentence', (typed) => expect(() => requestOf(...typed)).toThrow(CommanderError));

describe('a file of consents', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'anneal-sniff-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([
    ['subject,consent\n', true],
    ['\uFEFFsubject;consent\n', true],
    ['PK\u0003\u0004', true],
    ['{"resourceType":"Bundle"}', false],
    ['\uFEFF\n  {"resourceType":"Consent"}\n{}', false],
    ['[1]', false],
    ['', false],
  ])('%j is a table: %s', async (text, expected) => {
    const file = join(folder, 'file');
    writeFileSync(file, text);
    expect(await isTable(file)).toBe(expected);
    expect(await isTable(join(folder, 'none'))).toBe(false);
  });
});
