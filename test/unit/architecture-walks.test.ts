/** The walks of docs/architecture.md name files and functions that are there. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it, test } from 'vitest';

const text = readFileSync('docs/architecture.md', 'utf8');
const walks = text.split('\n## Walks\n')[1]!.split('\n## ')[0]!;
const sections = walks.split('\n### ').slice(1);
const numbered = walks.split('\n').filter((line) => /^\d+\. /.test(line));

interface Stop {
  file: string;
  name: string;
}

/** 1. `file` `function`: what happens. */
function stopOf(line: string): Stop | null {
  const [, file, name] = /^\d+\. `([^`]+)` `(\w+)`: \S.*\.$/.exec(line) ?? [];
  return file === undefined || name === undefined ? null : { file, name };
}

/** A function, a constant, a method or a property of an object; a call or an import is none of these. */
function defines(source: string, name: string): boolean {
  const declared = new RegExp(`^\\s*(?:export )?(?:async )?(?:function\\*?|const|let) ${name}\\b`, 'm');
  const method = new RegExp(`^\\s+(?:async )?${name}\\([^()]*\\)(?:: [^=]+)? \\{`, 'm');
  const property = new RegExp(
    `^\\s+${name}: (?:async )?(?:\\(|procedure|viewing|managing|approving|administering)`,
    'm',
  );
  return declared.test(source) || method.test(source) || property.test(source);
}

test.each([
  ['export async function runTrainJob(job: TrainJob) {', true],
  ['  async compose(context, purpose) {', true],
  ['  startRun: procedure', true],
  ['  startRun: approving', true],
  ["import { runTrainJob } from './training-job.ts';", false],
  ['  await runTrainJob(job, context);', false],
  ['  runTrainJob(job, () => {', false],
  ['  compose({ runId, round });', false],
  ['// runTrainJob, compose and startRun', false],
])('"%s" defines it: %s', (source, expected) => {
  const found = ['runTrainJob', 'compose', 'startRun'].some((name) => defines(source, name));

  expect(found).toBe(expected);
});

describe('the walks of docs/architecture.md', () => {
  it('are those of a photograph, an adapter, a setting and a message', () => {
    const titles = sections.map((section) => section.split('\n')[0]);

    expect(titles).toEqual(['A photograph', 'An adapter', 'A setting', 'A message']);
  });

  it('have one line per stop: file, function, what happens', () => {
    const others = numbered.filter((line) => stopOf(line) === null);

    expect(numbered.length).toBeGreaterThan(60);
    expect(others).toEqual([]);
  });

  it('name files that exist and functions that they define', () => {
    const missing = numbered
      .flatMap((line) => stopOf(line) ?? [])
      .filter(({ file, name }) => !existsSync(file) || !defines(readFileSync(file, 'utf8'), name))
      .map(({ file, name }) => `${file} ${name}`);

    expect(missing).toEqual([]);
  });

  it('are numbered without a gap', () => {
    const numbers = numbered.map((line) => Number(line.split('.')[0]));
    const wrong = numbers.filter((number, index) => number !== 1 && number !== numbers[index - 1]! + 1);

    expect(wrong).toEqual([]);
  });

  it('link to pages that exist', () => {
    const links = [...text.matchAll(/\]\(([^)#]+)\)/g)].map((match) => `docs/${match[1]}`);

    expect(links.length).toBeGreaterThan(2);
    expect(links.filter((link) => !existsSync(link))).toEqual([]);
  });
});
