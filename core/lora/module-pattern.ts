/**
 * Ways to name modules, as Hugging Face PEFT has them: a list (a name, or its last parts) or one regular
 * expression. Expressions run in time linear in the name (RE2 syntax: no look-around, no back-references), so
 * that a setting sent by another machine cannot hang this one.
 * Source: PEFT 0.21, `check_target_module_exists` and `get_pattern_key`.
 */
import { RE2JS } from 're2js';
import { AppError } from '../shared/errors.ts';

/** A list of names, or a regular expression that must match the whole name of a module. */
export type ModuleSelector = string | readonly string[];

/** Longest expression that is read; the matching time grows with its length times that of the name. */
export const maxPatternLength = 256;

/**
 * @param what what the selector is called in errors, for instance `targetModules`
 * @throws AppError CONFIG_INVALID when an expression is too long or not one
 */
export function compileModuleSelector(selector: ModuleSelector, what: string): (module: string) => boolean {
  if (typeof selector !== 'string') return (module) => selector.some((name) => endsWithName(module, name));
  const expression = compile(selector, selector, what);
  return (module) => expression.matches(module);
}

/** PEFT's suffix rule: `q` and `attn.q` both match `blocks.3.attn.q`, but `n.q` does not. */
export function endsWithName(module: string, name: string): boolean {
  return module === name || module.endsWith(`.${name}`);
}

/**
 * Looks up `rank_pattern` and `alpha_pattern`: each key is an expression for a whole name or its last parts; of those
 * that match, the first counts. `^` at its start makes a key match whole names only.
 * @param what what the table is called in errors
 * @throws AppError CONFIG_INVALID when a key is no expression
 */
export function compilePatternTable<T>(
  entries: Iterable<readonly [string, T]>,
  what: string,
): (module: string) => T | undefined {
  const compiled = [...entries].map(([key, value]) => ({
    expression: compile(`(?:.*\\.)?(?:${key})`, key, what),
    value,
  }));
  return (module) => compiled.find(({ expression }) => expression.matches(module))?.value;
}

/** Entries with the longest key first: the most specific counts, whatever order a table travelled in. */
export function longestKeyFirst<T>(table: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(table).sort(([x], [y]) => y.length - x.length || (x < y ? -1 : 1));
}

function compile(pattern: string, shown: string, what: string): RE2JS {
  if (shown.length > maxPatternLength) {
    throw new AppError(
      'CONFIG_INVALID',
      `A pattern of "${what}" has ${shown.length} characters; at most ${maxPatternLength} are allowed.`,
    );
  }
  try {
    return RE2JS.compile(pattern);
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : '').replace(/^error parsing regexp: /, '');
    throw new AppError('CONFIG_INVALID', `The pattern "${shown}" of "${what}" cannot be read: ${reason}.`, {
      action: 'Use a regular expression without look-around and back-references, or a list of names.',
      cause,
    });
  }
}
