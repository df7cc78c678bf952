/**
 * Code asks a strategy for its traits, plans and rules, never for its name: a new strategy is its own file, a line of the
 * registry and a name in core/config.
 */
import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { expect, it } from 'vitest';
import { strategyNameSchema } from '../../core/config/setting.ts';
import { strategies } from '../../core/strategy/registry.ts';
import type { StrategyTraits } from '../../core/strategy/strategy.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const names = strategyNameSchema.options;
const quotedName = new RegExp(`(['"\`])(${names.join('|')})\\1`);

const allowed = [
  ...names.map((name) => `core/strategy/${name}.ts`),
  'core/strategy/registry.ts',
  /^core\/config\//,
  // Presets: the settings of the demonstration.
  /^core\/cli\/demo\//,
  // What the screens call a strategy.
  'renderer/format/words.ts',
  // The planning form, until core/config says for which strategies a setting means something.
  'renderer/api/run-settings.ts',
];
const isAllowed = (file: string) =>
  allowed.some((place) => (typeof place === 'string' ? place === file : place.test(file)));

/** Lines of code that name a strategy; comments may. */
function linesWithNames(file: string): string[] {
  const code = readFileSync(`${root}/${file}`, 'utf8').replaceAll(
    /\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm,
    (comment) => comment.replaceAll(/[^\n]/g, ''),
  );
  return code
    .split('\n')
    .flatMap((line, at) => (quotedName.test(line) ? `${file}:${at + 1}: ${line.trim()}` : []));
}

const files = globSync(
  ['core/**/*.ts', 'electron/**/*.ts', 'renderer/**/*.{ts,tsx}', 'build/**/*.{ts,mjs}'],
  {
    cwd: root,
  },
);

it('no code outside of strategies, registry, settings and presets names a strategy', () => {
  expect(files.length).toBeGreaterThan(400);
  expect(files.filter((file) => !isAllowed(file)).flatMap(linesWithNames)).toEqual([]);
});

it('the table of traits in docs/strategies.md is that of the code', () => {
  const word = (holds: boolean) => (holds ? 'yes' : 'no');
  const row = (label: string, { merges, linear, siteRanks }: StrategyTraits) =>
    `| ${label} | ${merges} | ${word(linear)} | ${word(siteRanks)} |`;
  const lines = Object.values(strategies).flatMap(({ name, traits }) => {
    const [plain, fixed] = [false, true].map((freezeA) => traits({ freezeA }));
    const rows = [row(`\`${name}\``, plain!), row(`\`${name}\` with \`freezeA\``, fixed!)];
    return isDeepStrictEqual(plain, fixed) ? rows.slice(0, 1) : rows;
  });
  const docs = readFileSync(`${root}/docs/strategies.md`, 'utf8');
  const table = /<!-- traits -->\n([\s\S]*?)\n<!-- end -->/.exec(docs)?.[1] ?? '';
  expect(table.split('\n').slice(2)).toEqual(lines);
});

it('finds names where they are', () => {
  expect(linesWithNames('core/strategy/registry.ts')).toHaveLength(
    names.filter((name) => name.includes('-')).length,
  );
  for (const name of names)
    expect(linesWithNames(`core/strategy/${name}.ts`).join()).toContain(`name: '${name}'`);
});
