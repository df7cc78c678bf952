import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const text = readFileSync('docs/glossary.md', 'utf8');
const rows = text.split('\n').filter((line) => /^\| (?!word|---)/.test(line));

it('every word of the glossary has a home that exists', () => {
  const homes = rows.flatMap((row) => {
    const cell = row.split(' | ').at(-1)!;
    const first = /`([^`]+)`/.exec(cell)?.[1];
    const link = /\]\(([^)]+)\)/.exec(cell)?.[1];
    return [first ?? (link === undefined ? `no home: ${row}` : `docs/${link}`)];
  });

  expect(rows.length).toBeGreaterThan(60);
  expect(homes.filter((home) => !existsSync(home))).toEqual([]);
});

it('each section of the glossary is in alphabetical order', () => {
  for (const section of text.split('\n## ').slice(1)) {
    const words = [...section.matchAll(/^\| (?!word|---)([^|]+) \|/gm)].map((match) =>
      match[1]!.toLowerCase(),
    );
    expect(words).toEqual([...words].sort((a, b) => a.localeCompare(b, 'en')));
  }
});
