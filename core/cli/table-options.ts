/** Options of commands that read a hospital's table. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type ColumnMap, type Field, fieldSchema, fields } from '../data/tables/columns.ts';
import { dateFormats } from '../data/tables/dates.ts';
import type { TableRequest } from '../data/tables/request.ts';
import { encodings } from '../data/tables/table.ts';
import { type ValueMap, valueMapSchema } from '../data/tables/values.ts';

export interface TableOptions {
  sheet?: string;
  encoding?: TableRequest['encoding'];
  map?: ColumnMap;
  values?: ValueMap;
  dates?: TableRequest['dates'];
  same?: Record<string, string>;
  distinct?: [string, string][];
  acceptMapping: boolean;
  acceptWarnings: boolean;
  again: boolean;
}

/** For {@link tableRequestOf}. */
export function addTableOptions(command: Command): Command {
  return command
    .option('--sheet <name>', 'sheet of a spreadsheet, if not the first')
    .addOption(
      new Option('--encoding <name>', 'encoding of a text file that is not Unicode').choices(encodings),
    )
    .option(
      '--map <field=column,…>',
      `columns of the table by field (${fields.join(', ')}); nothing after = for none`,
      readColumns,
    )
    .option('--values <field:word=meaning,…>', 'what words mean, for instance consent:ja=granted', readValues)
    .addOption(
      new Option('--dates <format>', 'how dates are written, if not as 2026-01-31').choices(dateFormats),
    )
    .option('--same <written=subject>', 'this pseudonym of the table is that subject; repeatable', readSame)
    .option('--distinct <one,other>', 'these two look alike and are two subjects; repeatable', readDistinct)
    .option('--accept-mapping', 'what was guessed for columns and words is right', false)
    .option('--accept-warnings', 'what the preview warns of is as it should be', false)
    .option('--again', 'subjects that were erased here may come again', false);
}

export function tableRequestOf(options: TableOptions): TableRequest {
  const { sheet, encoding, map, values, dates, same, distinct, acceptMapping, acceptWarnings, again } =
    options;
  return { sheet, encoding, map, values, dates, same, distinct, acceptMapping, acceptWarnings, again };
}

/** Between two of them; names of columns may hold commas. */
const nextField = new RegExp(`,(?=\\s*(?:${fields.join('|')})\\s*=)`);

function readColumns(text: string, before: ColumnMap = {}): ColumnMap {
  const map = { ...before };
  for (const part of text.split(nextField)) {
    const [, name = '', column = ''] = /^\s*([^=]*?)\s*=(.*)$/s.exec(part) ?? [];
    const field = fieldSchema.safeParse(name);
    if (!field.success) {
      throw new InvalidArgumentError(`Give field=column; a field is one of ${fields.join(', ')}.`);
    }
    map[field.data as Field] = column.trim() === '' ? null : column.trim();
  }
  return map;
}

function readValues(text: string, before: ValueMap = {}): ValueMap {
  const given: Record<string, Record<string, string>> = {
    consent: { ...before.consent },
    split: { ...before.split },
  };
  let field = 'consent';
  for (const part of text.split(/,(?=[^,=]+=)/)) {
    const [, name = field, word = '', meaning = ''] =
      /^\s*(?:(consent|split):)?\s*(.+?)\s*=\s*(\w+)\s*$/s.exec(part) ?? [];
    field = name;
    if (word !== '') given[field]![word] = meaning;
    const known = valueMapSchema.safeParse(given);
    if (word === '' || !known.success) {
      throw new InvalidArgumentError(
        'Give consent:word=granted, =withdrawn or =none, or split:word=train or =test.',
      );
    }
  }
  return valueMapSchema.parse(given);
}

function readSame(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [written = '', subject = '', ...rest] = text.split('=').map((one) => one.trim());
  if (written === '' || subject === '' || rest.length > 0) {
    throw new InvalidArgumentError('Give the pseudonym of the table, =, and the subject that is meant.');
  }
  return { ...before, [written]: subject };
}

function readDistinct(text: string, before: [string, string][] = []): [string, string][] {
  const [one = '', other = '', ...rest] = text.split(',').map((part) => part.trim());
  if (one === '' || other === '' || rest.length > 0) {
    throw new InvalidArgumentError('Give two pseudonyms with a comma between them.');
  }
  return [...before, [one, other]];
}
