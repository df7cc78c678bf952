import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { operators as registry } from '../../core/graph/operators.ts';
import { ruleCases } from '../gradient/rule-cases.ts';

const operators = [...registry]
  .map(([op, { trainable, infer, gradient }]) => ({
    op,
    trainable,
    gradient,
    composite: infer === undefined,
  }))
  .sort((a, b) => (a.op < b.op ? -1 : 1));

describe('the registry of operators', () => {
  test('holds every operator of every family once', async () => {
    const files = readdirSync('core/graph/operators').map((file) => `../../core/graph/operators/${file}`);
    const modules = await Promise.all(files.map((file) => import(file) as Promise<Record<string, object>>));
    const families = modules.flatMap((module) =>
      Object.entries(module).filter(([name]) => name.endsWith('Operators')),
    );
    const names = families.flatMap(([, table]) => Object.keys(table));

    expect(families.length).toBeGreaterThan(10);
    expect(operators.map(({ op }) => op)).toEqual(names.sort());
  });

  test('every operator has a gradient rule or is one of those that cannot have one', () => {
    const without = operators.filter(({ gradient, composite }) => gradient === undefined && !composite);

    expect(without.map(({ op }) => op)).toEqual(['Equal', 'Greater', 'Less', 'OneHot', 'Sign']);
    expect(operators.filter(({ trainable, composite }) => trainable === 'none' && !composite)).toEqual(
      without,
    );
  });

  test('says "both" exactly where a case trains two inputs of the operator', () => {
    const severalTrained = new Set(
      ruleCases
        .filter(({ feeds, wrt }) => (wrt ?? Object.keys(feeds)).length > 1)
        .map((ruleCase) => ruleCase.op),
    );
    const both = operators.filter(({ trainable, composite }) => trainable === 'both' && !composite);

    expect(both.map(({ op }) => op)).toEqual([...severalTrained].sort());
  });

  test('knows no name of the object prototype and no empty one', () => {
    for (const op of ['constructor', 'toString', '__proto__', '', 'Celu']) {
      expect(registry.has(op)).toBe(false);
    }
  });

  test('docs/models.md lists exactly these operators with their gradients', () => {
    const words = { both: 'input and weights', input: 'input', none: 'no' };
    const page = readFileSync('docs/models.md', 'utf8');
    const rows = [...page.matchAll(/^\| (\w+) \| (input and weights|input|no) \| (.*) ?\|$/gm)];

    const listed = rows.map(([, op, gradient, note]) => ({
      op,
      gradient,
      composite: note!.startsWith('written as other operators'),
    }));

    expect(listed).toEqual(
      operators.map(({ op, trainable, composite }) => ({ op, gradient: words[trainable], composite })),
    );
  });
});
