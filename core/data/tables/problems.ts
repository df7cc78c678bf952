/** Everything that is wrong with a table, at once. */
import { stringify } from 'csv-stringify/sync';
import { AppError, type ErrorCode } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';

export interface TableProblem {
  /** 1-based. */
  line: number;
  /** As the table calls it; null where it is not about one cell. */
  column: string | null;
  value: string | null;
  /** A whole sentence, without the name of the file. */
  message: string;
  /** False: the import goes on without this row's image. */
  blocks: boolean;
  code: ErrorCode;
  action: string | null;
}

/** So many are listed; the rest is counted. */
export const maxProblems = 1000;

export class ProblemList {
  readonly #kept: TableProblem[] = [];
  #count = 0;
  #blocking = 0;
  readonly #lines = new Set<number>();

  add(problem: Pick<TableProblem, 'line' | 'message'> & Partial<TableProblem>): void {
    const whole = {
      column: null,
      value: null,
      blocks: true,
      code: 'CSV_MALFORMED',
      action: null,
      ...problem,
    } as const;
    this.#count += 1;
    if (whole.blocks) this.#blocking += 1;
    this.#lines.add(whole.line);
    if (this.#kept.length < maxProblems) this.#kept.push(whole);
  }

  /** The first {@link maxProblems}, by line. */
  list(): TableProblem[] {
    return this.#kept.toSorted((a, b) => a.line - b.line);
  }

  get count(): number {
    return this.#count;
  }

  get blocking(): number {
    return this.#blocking;
  }

  hasLine(line: number): boolean {
    return this.#lines.has(line);
  }

  /** The first one that blocks, with the number of the others; null when none does. @param name of the file */
  toError(name: string, also = ''): AppError | null {
    const first = this.list().find(({ blocks }) => blocks);
    if (first === undefined) return null;
    const others = this.#blocking - 1;
    const more = others === 0 ? '' : ` And ${plural(others, 'more problem')}: the preview lists them all.`;
    return new AppError(
      first.code,
      `${name}, ${sentence(first)}${more}${also}`,
      first.action === null ? {} : { action: first.action },
    );
  }
}

const sentence = ({ line, column, message }: TableProblem) =>
  column === null ? `line ${line}: ${message}` : `line ${line}, column "${column}": ${message}`;

/**
 * As a table for the person who corrects the rows. UTF-8 with a mark, so that spreadsheets read it as such; a cell that
 * begins like a formula gets an apostrophe in front, so that they do not calculate it (OWASP: CSV injection).
 */
export function problemsCsv(problems: readonly TableProblem[], count: number): string {
  const rows = problems.map(({ line, column, value, message }) => [
    String(line),
    column ?? '',
    value ?? '',
    message,
  ]);
  const rest = count - problems.length;
  if (rest > 0) rows.push(['', '', '', `And ${plural(rest, 'more problem')}.`]);
  return stringify([['line', 'column', 'value', 'problem'], ...rows], {
    bom: true,
    escape_formulas: true,
    record_delimiter: 'windows',
  });
}
