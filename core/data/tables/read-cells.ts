/** One cell of a table to the value of its field; what is wrong goes to the list of problems. */
import { normalisePseudonym, pseudonymProblem } from '../../consent/pseudonym.ts';
import { hiddenCharacterIn, quote } from '../../shared/visible-text.ts';
import type { Field } from './columns.ts';
import { type DateFormat, type ReadDate, readDate } from './dates.ts';
import type { ProblemList } from './problems.ts';
import type { CellType } from './table.ts';

export interface Cell {
  line: number;
  /** As the table calls its column. */
  column: string;
  text: string;
  type: CellType | undefined;
}

const maxTextLength = 128;
const maxPathLength = 512;

/** @param problem the rest of a sentence that begins with the value */
export function addProblem(
  problems: ProblemList,
  { line, column, text }: Cell,
  problem: string,
  action: string | null = null,
): null {
  const what = text === '' ? 'it' : quote(text);
  problems.add({ line, column, value: text, message: `${what} ${problem}.`, action });
  return null;
}

/** A label, a site, a purpose or a document; null after a problem. */
export function readText(cell: Cell, problems: ProblemList): string | null {
  const text = cell.text.normalize('NFC');
  if (text === '') return addProblem(problems, cell, 'is empty');
  if (text.length > maxTextLength) {
    return addProblem(problems, cell, `is longer than ${maxTextLength} characters`);
  }
  const hidden = hiddenCharacterIn(text);
  return hidden === null ? text : addProblem(problems, cell, hidden);
}

export function readFile(cell: Cell, problems: ProblemList): string | null {
  if (cell.text === '') return addProblem(problems, cell, 'is empty');
  if (cell.text.length > maxPathLength) {
    return addProblem(problems, cell, `is longer than ${maxPathLength} characters`);
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must be refused
  if (/[\u0000-\u001f\u007f]/.test(cell.text)) return addProblem(problems, cell, 'holds a control character');
  return pathInside(cell.text) ?? addProblem(problems, cell, 'leads out of the image folder');
}

/** The path with `/`, or null when it is absolute or leads out of its folder, on any system. */
export function pathInside(path: string): string | null {
  const parts = path.replaceAll('\\', '/').split('/');
  if (parts[0] === '' || /^[a-z]:/i.test(path) || parts.includes('..')) return null;
  const kept = parts.filter((part) => part !== '' && part !== '.');
  return kept.length === 0 ? null : kept.join('/');
}

/** @param known gives the stored form of a subject that is there already, also one whose form would be refused today */
export function readSubject(
  cell: Cell,
  problems: ProblemList,
  known: (pseudonym: string) => string | null,
): string | null {
  const pseudonym = normalisePseudonym(cell.text);
  const stored = known(cell.text) ?? known(pseudonym);
  if (stored !== null) return stored;
  if (cell.type === 'date') {
    return addProblem(
      problems,
      cell,
      'is a date in the spreadsheet: one that it has made of a pseudonym, or a birth date',
      'Format the column as text in the spreadsheet, enter the pseudonyms again and save it.',
    );
  }
  const isFraction = cell.type === 'number' && !/^\d+$/.test(cell.text);
  if (isFraction) {
    return addProblem(
      problems,
      cell,
      'is a number in the spreadsheet, with decimals or shortened',
      'Format the column as text in the spreadsheet, enter the pseudonyms again and save it.',
    );
  }
  const problem = pseudonymProblem(pseudonym);
  return problem === null ? pseudonym : addProblem(problems, cell, problem.message, problem.action ?? null);
}

export function readPeriodEdge(
  cell: Cell,
  options: { format: DateFormat; timeZone: string; field: Field },
  problems: ProblemList,
): (ReadDate & { ok: true }) | null {
  const edge = options.field === 'consent_from' ? 'begin' : 'end';
  const read = readDate(cell.text, { ...options, edge });
  return read.ok ? read : addProblem(problems, cell, read.message);
}
