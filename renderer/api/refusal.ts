/** Which field of a form the coordinator's refusal of settings is about. */
import { toReport } from './errors.ts';

export interface Refusal {
  /** The setting by its path, as the coordinator's sentences quote it: `robust.rule`. */
  setting: string;
  /** The sentence and what to do. */
  text: string;
}

const quotedPath = /"([a-z][A-Za-z0-9]*(?:\.[a-z][A-Za-z0-9]*)?)"/g;

/**
 * The first setting of a refusal that the form has a field for; null when there is none, or the failure is another.
 * @param settings paths of the form's fields
 */
export function refusalAt(error: unknown, settings: readonly string[]): Refusal | null {
  const { code, message, action } = toReport(error);
  if (code !== 'CONFIG_INVALID') return null;
  const setting = [...message.matchAll(quotedPath)]
    .map((match) => match[1]!)
    .find((path) => settings.includes(path));
  return setting === undefined ? null : { setting, text: `${message} ${action}` };
}
