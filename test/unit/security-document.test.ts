/** docs/security.md names every attack of test/attack/, and no other. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';

const folder = 'test/attack';

/** `test('…')` and `test.each(…)('…')`. */
function titlesIn(source: string): string[] {
  const titles: string[] = [];
  const isTest = (callee: ts.Expression): boolean =>
    ts.isIdentifier(callee)
      ? callee.text === 'test'
      : ts.isPropertyAccessExpression(callee)
        ? isTest(callee.expression)
        : ts.isCallExpression(callee) && isTest(callee.expression);
  const visit = (node: ts.Node): void => {
    const [title] = ts.isCallExpression(node) && isTest(node.expression) ? node.arguments : [];
    if (title !== undefined && ts.isStringLiteralLike(title)) titles.push(title.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('attack.ts', source, ts.ScriptTarget.Latest));
  return titles;
}

const attacks = readdirSync(folder)
  .filter((name) => name.endsWith('.test.ts'))
  .flatMap((name) =>
    titlesIn(readFileSync(path.join(folder, name), 'utf8')).map(
      (title) => `${name.replace('.test.ts', '')}: ${title}`,
    ),
  );

const document = readFileSync('docs/security.md', 'utf8');
const named = [...document.matchAll(/`([a-z-]+)` “([^”]+)”/g)].map(([, file, title]) => `${file}: ${title}`);

test('titles are found where tests are written in either way', () => {
  const source = "test('one', () => {}); test.each([1])('two %d', () => {}); other('three');";

  expect(titlesIn(source)).toEqual(['one', 'two %d']);
});

test('each line of the threat model names an attack that there is', () => {
  expect(named.filter((attack) => !attacks.includes(attack))).toEqual([]);
  expect(document.match(/“/g)).toHaveLength(named.length);
});

test('each attack stands in the threat model, once', () => {
  expect([...named].sort()).toEqual([...attacks].sort());
});
