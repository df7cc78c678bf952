import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { figuresOf } from '../../core/simulation/report/figures.ts';
import { renderReport } from '../../core/simulation/report/page.ts';
import { scenariosOf } from '../../core/simulation/report/scenarios.ts';
import { resultTable, toCsv, toLatex, toMarkdown } from '../../core/simulation/report/tables.ts';
import { writeReport } from '../../core/simulation/report/write-report.ts';
import { failedRun, finishedRun } from '../fixtures/simulated-runs.ts';

const two = () => [
  finishedRun({ label: 'annealed', seed: 1, accuracy: [0.4, 0.7, 0.8] }),
  finishedRun({ label: 'annealed', seed: 2, accuracy: [0.5, 0.8, 0.9] }),
  finishedRun({ label: 'fixed', seed: 1, accuracy: [0.3, 0.4, 0.5], bytesPerRound: 50_000 }),
];

describe('scenariosOf', () => {
  it('puts runs together that differ in the seed alone, and apart what is not comparable', () => {
    const runs = [...two(), finishedRun({ label: 'annealed', alpha: 5 }), failedRun({ label: 'fixed' })];
    const scenarios = scenariosOf(runs);
    expect(scenarios.map(({ title }) => title)).toEqual([
      'Dirichlet α = 0.5, 4 sites',
      'Dirichlet α = 5, 4 sites',
    ]);
    expect(scenarios[0]!.methods.map(({ label, runs: { length } }) => [label, length])).toEqual([
      ['annealed', 2],
      ['fixed', 1],
    ]);
    expect(scenarios[0]!.failed).toHaveLength(1);
  });

  it('keeps runs over other images apart, also when all else is the same', () => {
    const other = two().map((run) => ({ ...run, dataSha256: 'ef'.repeat(32) }));

    const scenarios = scenariosOf([...two(), ...other]);

    expect(scenarios.map(({ title }) => title)).toEqual([
      'Dirichlet α = 0.5, 4 sites, images cdcdcdcd',
      'Dirichlet α = 0.5, 4 sites, images efefefef',
    ]);
    expect(scenarios.map(({ methods }) => methods[0]!.runs.length)).toEqual([2, 2]);
  });

  it('gives means by round with the t interval of their mean', () => {
    const [{ methods } = { methods: [] }] = scenariosOf(two());
    const [annealed] = methods;
    const first = annealed!.accuracy[0]!;
    expect(first.mean).toBeCloseTo(0.45, 12);
    // t(0.975, 1) = 12.7062; the deviation of 0.4 and 0.5 is 0.0707, over √2.
    expect(first.upper - first.mean).toBeCloseTo(12.7062 * 0.05, 4);
    expect(annealed!.sentBytes).toEqual([2000, 4000, 6000]);
    expect(annealed!.rank.map((rank) => rank?.mean)).toEqual([8, 7, 6]);
  });

  it('leaves rounds out where no run has the measure', () => {
    const [{ methods } = { methods: [] }] = scenariosOf([finishedRun({ accuracy: [null, 0.5] })]);
    expect(methods[0]!.accuracy[0]).toBeNull();
    expect(methods[0]!.epsilon).toEqual([null, null]);
  });
});

describe('figuresOf', () => {
  it('takes 95 % of the best method as the target and counts rounds and bytes until it', () => {
    const figures = figuresOf(scenariosOf(two())[0]!);
    expect(figures.target).toBeCloseTo(0.95 * 0.85, 12);
    const [annealed, fixed] = figures.methods;
    // One run reaches 0.8075 in its third round; the other one stays at 0.8.
    expect(annealed).toMatchObject({ reached: 1, seeds: 2 });
    expect(annealed!.roundsToTarget!.mean).toBe(3);
    expect(annealed!.bytesToTarget!.mean).toBe(6000);
    expect(fixed).toMatchObject({ reached: 0, roundsToTarget: null, bytesToTarget: null });
    expect(fixed!.savedAgainstFull).toBeCloseTo(0.95, 12);
    expect(fixed!.savedAgainstFixedRank).toBeCloseTo(0.5, 12);
  });

  it('takes a target that is given', () => {
    const { methods } = figuresOf(scenariosOf(two())[0]!, 0.7);
    expect(methods[0]!.roundsToTarget!.mean).toBe(2);
  });
});

describe('tables for papers', () => {
  const shown = resultTable(figuresOf(scenariosOf([finishedRun({ label: '50 %_a|b, "c"' })])[0]!));

  it('holds one row a method and no column that nobody fills', () => {
    expect(shown.head).toContain('Macro AUC %');
    expect(shown.head).not.toContain('Top-5 %');
    expect(shown.head).not.toContain('ε');
    expect(shown.rows).toHaveLength(1);
    expect(shown.rows[0]![shown.head.indexOf('Accuracy %')]).toBe('80.0');
  });

  it('is escaped for Markdown, CSV and LaTeX', () => {
    expect(toMarkdown(shown).split('\n')[2]).toMatch(/^\| 50 %_a\\\|b, "c" \| 1 \|/);
    expect(toCsv(shown).split('\r\n')[1]).toMatch(/^"50 %_a\|b, ""c""",1,80.0,/);
    expect(toLatex(shown)).toContain('50 \\%\\_a|b, "c" & 1 & 80.0 &');
    expect(toLatex(shown)).toMatch(/^\\begin\{tabular\}\{lr+\}\n\\toprule\n/);
  });

  it('never starts a cell of the CSV with a formula', () => {
    expect(toCsv({ head: ['Method'], rows: [['=1+1']] })).toBe("Method\r\n'=1+1");
  });
});

/** Points of a line's path in the first plot with this caption. */
function linesOf(page: string, caption: string): [number, number][][] {
  const figure = page.split('<figure>').find((part) => part.includes(`<figcaption>${caption}`))!;
  return [
    ...figure.matchAll(/<path d="(M[^"]+)" fill="none"[^>]*stroke="#[0-9a-f]{6}"[^>]*stroke-width="2"/g),
  ].map(([, path]) =>
    [...path!.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(
      ([, x, y]) => [Number(x), Number(y)] as [number, number],
    ),
  );
}

describe('renderReport', () => {
  it('draws each method, left to right by bytes and upwards by accuracy', () => {
    const page = renderReport(two());
    const lines = linesOf(page, 'Accuracy against bytes sent');
    expect(lines.map((points) => points.length)).toEqual([3, 3]);
    for (const points of lines) {
      const steps = points.slice(1).map(([x, y], index) => [x - points[index]![0], y - points[index]![1]]);
      // Accuracy rises, and the image's y axis points down.
      for (const [right, down] of steps) expect([right! > 0, down! < 0]).toEqual([true, true]);
    }
    // 0.45, 0.75, 0.85: the first step is three times the second.
    const [[a, b, c]] = lines as [[[number, number], [number, number], [number, number]]];
    expect((a[1] - b[1]) / (b[1] - c[1])).toBeCloseTo(3, 1);
  });

  it('shows the table, the target, the failed run, and recall where there is one', () => {
    const page = renderReport([...two(), failedRun({ label: 'fixed' })]);
    expect(page).toContain('<td>85.0 ± 63.5</td>');
    expect(page).toContain('an accuracy of 80.8 %');
    expect(page).toContain('DISK_FULL: The disk is full.');
    expect(page).toMatch(/<th scope="row">second<\/th><td>50 %<\/td>/);
    expect(page).toMatch(/<th scope="row">third<\/th><td>–<\/td>/);
    expect(page).toContain('3 of 4 runs finished');
  });

  it('shows what the network did before training, and which run ends below that', () => {
    const config = { headStart: 'prototypes', smallCell: 1 } as const;
    const below = finishedRun({ label: 'below', accuracy: [0.72, 0.8, 0.68], untrained: 0.589, config });
    const above = finishedRun({ label: 'above', accuracy: [0.72, 0.8, 0.9], untrained: 0.589, config });
    const [scenario] = scenariosOf([below, above]);
    const { head, rows } = resultTable(figuresOf(scenario!));
    const page = renderReport([below, above]);

    expect(rows.map((row) => row[head.indexOf('Untrained 1-NN %')])).toEqual(['58.9', '58.9']);
    expect(rows.map((row) => row[head.indexOf('Class means %')])).toEqual(['72.0', '72.0']);
    expect(
      page.match(
        /below, seed 1: The run ends at 68\.0 %, below its own class means before training \(72\.0 %\)/g,
      ),
    ).toHaveLength(1);
    expect(page).not.toContain('above, seed 1');
    expect(renderReport(two())).not.toMatch(/Untrained 1-NN|Below their own floor/);
  });

  it('needs nothing else and runs nothing', () => {
    const page = renderReport([finishedRun({ label: '<script>alert(1)</script>' })]);
    expect(page).not.toMatch(/<script|<link|<img|src=|url\((?!#)/);
    expect(page).toContain("default-src 'none'");
    expect(page).toContain('&#60;script&#62;');
  });

  it('works with a single round, without any accuracy, and with nothing but failures', () => {
    expect(renderReport([finishedRun({ accuracy: [0.5] })])).toContain('<figcaption>Rank by round');
    const blind = renderReport([finishedRun({ accuracy: [null, null], recall: [null, null, null] })]);
    expect(blind).toContain('No run has an accuracy.');
    expect(blind).not.toContain('Recall by class');
    expect(blind).not.toContain('Accuracy against bytes sent');
    expect(renderReport([failedRun()])).toContain('No run in this part finished.');
  });

  it('holds two hundred runs of ten methods, each with a look of its own', () => {
    const runs = Array.from({ length: 200 }, (_, index) =>
      finishedRun({
        label: `method ${index % 10}`,
        seed: Math.floor(index / 10),
        alpha: index < 100 ? 1 : 2,
      }),
    );
    const page = renderReport(runs);
    const legend = page.slice(page.indexOf('class="legend"'), page.indexOf('class="plots"'));
    // Identifiers inside the images differ anyway.
    const looks = legend.match(/<svg.*?<\/svg>/gs)!.map((svg) => svg.replaceAll(/zr\d+[\w-]*/g, ''));
    expect(new Set(looks).size).toBe(10);
    expect(page.match(/<section id="s/g)).toHaveLength(2);
  });
});

describe('writeReport', () => {
  it('writes the file whole, and leaves nothing behind when it cannot', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'anneal-report-'));
    try {
      await writeReport(two(), join(folder, 'report.html'), { title: 'A title' });
      expect(await readFile(join(folder, 'report.html'), 'utf8')).toContain('<h1>A title</h1>');
      await expect(writeReport(two(), join(folder, 'none', 'report.html'))).rejects.toMatchObject({
        code: 'DATA_FOLDER_UNUSABLE',
      });
      await expect(writeReport([], join(folder, 'empty.html'))).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
      });
      expect(await readdir(folder)).toEqual(['report.html']);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
