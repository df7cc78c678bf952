/** The tables of docs/round-progress.md name the events, effects and phases of a site, all of them and no others. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const source = readFileSync('core/site/round-reducer.ts', 'utf8');
const site = readFileSync('docs/round-progress.md', 'utf8').split('\n## Site\n')[1]!.split('\n## ')[0]!;
const rows = site
  .split('\n')
  .filter((line) => /^\| `|^\| any/.test(line))
  .map((line) => line.split('|').slice(1, -1));

const wordsIn = (text: string) => new Set([...text.matchAll(/`(\w+)`/g)].map((match) => match[1]!));
const quotedIn = (text: string) => new Set([...text.matchAll(/'(\w+)'/g)].map((match) => match[1]!));
const typeCalled = (name: string) => source.split(`export type ${name} =`)[1]!.split(';\n\n')[0]!;

const steps = quotedIn(typeCalled('Step'));
const typesOf = (name: string) =>
  [...typeCalled(name).matchAll(/type: ([^;}]+)/g)].flatMap((match) => [...quotedIn(match[1]!)]);
const effects = new Set([...typesOf('Effect'), ...steps]);
const events = new Set(typesOf('SiteEvent'));
const phases = quotedIn(typeCalled('Phase'));

test('the source is read as it is written', () => {
  expect([...steps]).toEqual(['fetch', 'evaluate', 'train', 'announce']);
  expect(effects.size).toBeGreaterThan(10);
  expect(events).toContain('declinedHere');
  expect(phases).toContain('unapproved');
});

test('every effect has its row, with the events that answer it', () => {
  const table = rows.filter((cells) => cells.length === 3);

  expect(table.map(([effect]) => [...wordsIn(effect!)][0]).sort()).toEqual([...effects].sort());
  for (const [, , answers] of table) for (const answer of wordsIn(answers!)) expect(events).toContain(answer);
});

test('every event is in the table of transitions, but for those that only report', () => {
  const table = rows.filter((cells) => cells.length === 4);
  const named = new Set(table.flatMap(([, event]) => [...wordsIn(event!)]));
  const reports = ['began'];

  // `failed` of a certain effect names that one, too.
  expect([...named].filter((word) => !events.has(word) && !effects.has(word))).toEqual([]);
  expect([...events].filter((event) => !named.has(event)).sort()).toEqual(reports);
  for (const [from, , to, then] of table) {
    for (const phase of [...wordsIn(from!), ...wordsIn(to!)]) expect(phases).toContain(phase);
    for (const effect of wordsIn(then!)) expect(effects).toContain(effect);
  }
});
