import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { errorTable } from '../../core/shared/errors.ts';

const folder = new URL('../../docs/errors/', import.meta.url);
const codes = Object.keys(errorTable).sort();

describe('pages of the error codes', () => {
  test('every code has a page, and every page a code', () => {
    const pages = readdirSync(folder)
      .map((name) => name.replace(/\.md$/, ''))
      .sort();

    expect(pages).toEqual(codes);
  });

  test.each(codes)('%s says what it means, why it happens and what to do', (code) => {
    const [title, meaning, causesTitle, causes, stepsTitle, steps] = readFileSync(
      new URL(`${code}.md`, folder),
      'utf8',
    ).split('\n\n');

    expect(title).toBe(`# ${code}`);
    expect(meaning).toMatch(/^[A-Z].{20,}\.$/);
    expect(causesTitle).toBe('## Usual causes');
    expect(causes).toMatch(/^- /);
    expect(stepsTitle).toBe('## What to do');
    expect(steps).toMatch(/^1\. /);
  });
});
