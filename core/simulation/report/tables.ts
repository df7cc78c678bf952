/** The table of a scenario, and the same table to paste into a paper. */
import type { MethodFigures, ScenarioFigures } from './figures.ts';
import type { Estimate } from './scenarios.ts';

/** Column heads and one row a method, as text. */
export interface ResultTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

interface Column {
  readonly head: string;
  /** Left out when no method has it. */
  readonly optional?: true;
  readonly cell: (method: MethodFigures) => string | null;
}

const absent = '–';

/** `91.2 ± 0.8`: percent with half the width of the 95 % interval. */
function percentWithInterval(value: Estimate | null): string | null {
  return value === null ? null : withInterval(value, 100, 1);
}

function withInterval({ mean, upper, count }: Estimate, factor: number, digits: number): string {
  const shown = (factor * mean).toFixed(digits);
  return count < 2 ? shown : `${shown} ± ${(factor * (upper - mean)).toFixed(digits)}`;
}

function columns(figures: ScenarioFigures): Column[] {
  const { target } = figures;
  const aim = target === null ? 'target' : `${(100 * target).toFixed(1)} %`;
  return [
    { head: 'Method', cell: ({ label }) => label },
    { head: 'Runs', cell: ({ seeds }) => String(seeds) },
    { head: 'Accuracy %', cell: ({ accuracy }) => percentWithInterval(accuracy) },
    { head: 'Untrained 1-NN %', optional: true, cell: ({ untrained }) => percentWithInterval(untrained) },
    { head: 'Class means %', optional: true, cell: ({ classMeans }) => percentWithInterval(classMeans) },
    { head: 'Top-5 %', optional: true, cell: ({ top5 }) => percentWithInterval(top5) },
    { head: 'Macro-F1 %', optional: true, cell: ({ macroF1 }) => percentWithInterval(macroF1) },
    { head: 'Macro AUC %', optional: true, cell: ({ macroAuc }) => percentWithInterval(macroAuc) },
    {
      head: 'Calibration error %',
      optional: true,
      cell: ({ calibrationError }) => percentWithInterval(calibrationError),
    },
    { head: `Rounds to ${aim}`, cell: (method) => roundsCell(method) },
    {
      head: `MB to ${aim}`,
      cell: ({ bytesToTarget }) => (bytesToTarget === null ? null : megabytes(bytesToTarget.mean)),
    },
    { head: 'Parameters sent', cell: ({ parametersSent }) => millions(parametersSent) },
    { head: 'MB sent', cell: ({ bytesSent }) => megabytes(bytesSent) },
    { head: 'Fewer than FedAvg %', cell: ({ savedAgainstFull }) => percent(savedAgainstFull) },
    { head: 'Fewer than fixed rank %', cell: ({ savedAgainstFixedRank }) => percent(savedAgainstFixedRank) },
    {
      head: 'ε',
      optional: true,
      cell: ({ epsilon }) => (epsilon === null ? null : withInterval(epsilon, 1, 2)),
    },
  ];
}

/** The table of a scenario; columns that no method fills are left out. */
export function resultTable(figures: ScenarioFigures): ResultTable {
  const shown = columns(figures).filter(
    ({ optional, cell }) => optional !== true || figures.methods.some((method) => cell(method) !== null),
  );
  return {
    head: shown.map(({ head }) => head),
    rows: figures.methods.map((method) => shown.map(({ cell }) => cell(method) ?? absent)),
  };
}

/** GitHub's Markdown; the first column left, the others right. */
export function toMarkdown({ head, rows }: ResultTable): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll(/\r?\n/g, ' ')).join(' | ')} |`;
  const rule = `| ${head.map((_, index) => (index === 0 ? '---' : '---:')).join(' | ')} |`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}

/** RFC 4180. A cell that a spreadsheet would take for a formula gets an apostrophe. */
export function toCsv({ head, rows }: ResultTable): string {
  const cell = (text: string) => {
    const safe = /^[=+@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [head, ...rows].map((row) => row.map(cell).join(',')).join('\r\n');
}

const latexCharacters: Readonly<Record<string, string>> = {
  '\\': '\\textbackslash{}',
  '{': '\\{',
  '}': '\\}',
  '%': '\\%',
  '&': '\\&',
  $: '\\$',
  '#': '\\#',
  _: '\\_',
  '~': '\\textasciitilde{}',
  '^': '\\textasciicircum{}',
  '±': '$\\pm$',
  '–': '--',
  '−': '$-$',
  ε: '$\\varepsilon$',
  α: '$\\alpha$',
  λ: '$\\lambda$',
};

/** A `tabular` with the rules of booktabs. */
export function toLatex({ head, rows }: ResultTable): string {
  const line = (cells: readonly string[]) => `${cells.map(escapeLatex).join(' & ')} \\\\`;
  return [
    `\\begin{tabular}{l${'r'.repeat(Math.max(0, head.length - 1))}}`,
    '\\toprule',
    line(head),
    '\\midrule',
    ...rows.map(line),
    '\\bottomrule',
    '\\end{tabular}',
  ].join('\n');
}

function escapeLatex(text: string): string {
  return text.replaceAll(/[\\{}%&$#_~^±–−εαλ]/g, (character) => latexCharacters[character]!);
}

function roundsCell({ roundsToTarget, reached, seeds }: MethodFigures): string | null {
  if (roundsToTarget === null) return null;
  const shown = withInterval(roundsToTarget, 1, 1);
  return reached === seeds ? shown : `${shown} (${reached} of ${seeds})`;
}

function percent(share: number): string {
  return (100 * share).toFixed(2).replace('-', '−');
}

function millions(count: number): string {
  return count < 1e6 ? Math.round(count).toLocaleString('en-GB') : `${(count / 1e6).toFixed(2)} M`;
}

function megabytes(bytes: number): string {
  const value = bytes / 1e6;
  return value.toFixed(value < 1 ? 3 : value < 100 ? 2 : 1);
}
