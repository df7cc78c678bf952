/** Parsers of command-line values; commander prints their message with the option's name. */
import { InvalidArgumentError } from 'commander';

export function readPort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new InvalidArgumentError('Give a port from 0 to 65535.');
  return port;
}

export function readWholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('Give a whole number.');
  return value;
}

export function readNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Give a number.');
  return value;
}

/** `a,b,c` → names without blanks. */
export function readList(text: string): string[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 0) throw new InvalidArgumentError('Give at least one name.');
  return names;
}

/** Names separated by commas as a list; a single name, or a regular expression, as it is. */
export function readModules(text: string): string | string[] {
  return /^[\w.,\s-]*,[\w.,\s-]*$/.test(text) ? readList(text) : text.trim();
}

/** `attn.q=8,mlp.fc1=4` → a table of numbers by module. */
export function readNumberTable(text: string): Record<string, number> {
  const entries = readList(text).map((item): [string, number] => {
    const at = item.lastIndexOf('=');
    if (at < 1) throw new InvalidArgumentError('Give name=number, separated by commas.');
    return [item.slice(0, at).trim(), readNumber(item.slice(at + 1))];
  });
  return Object.fromEntries(entries);
}
