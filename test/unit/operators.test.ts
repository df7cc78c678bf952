import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { gradientRules } from '../../core/graph/autodiff.ts';
import { inferenceRules } from '../../core/graph/infer.ts';
import { isSupportedOperator, supportedOperators } from '../../core/graph/operators.ts';
import { ruleCases } from '../gradient/rule-cases.ts';

const operators = supportedOperators();

describe('supportedOperators', () => {
  test('names every operator with a type once, in order', () => {
    const names = operators.map(({ op }) => op);

    expect(names).toEqual([...new Set(names)].sort());
    expect(names).toEqual(expect.arrayContaining(Object.keys(inferenceRules)));
    expect(names.every(isSupportedOperator)).toBe(true);
  });

  test('every operator has a gradient rule or is one of those that cannot have one', () => {
    const without = Object.keys(inferenceRules).filter((op) => !Object.hasOwn(gradientRules, op));

    expect(without.sort()).toEqual(['Equal', 'Greater', 'Less', 'OneHot', 'Sign']);
    expect(operators.filter(({ trainable }) => trainable === 'none').map(({ op }) => op)).toEqual(
      without.sort(),
    );
  });

  test('every gradient rule belongs to an operator with a type', () => {
    for (const op of Object.keys(gradientRules)) expect(Object.keys(inferenceRules)).toContain(op);
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
      expect(isSupportedOperator(op)).toBe(false);
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
