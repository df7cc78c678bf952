/** Entries of the audit trail in words. */
import { formatBytes, formatHash, formatRound } from './format.ts';

/** `consent.granted` reads `Consent granted`. */
export function actionWords(action: string): string {
  const words = separated(action);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** `{documentVersion: 'v2', round: 0}` reads `document version v2 · round 1`; hashes are cut short. */
export function detailWords(details: Readonly<Record<string, unknown>>): string {
  return Object.entries(details)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => detail(key, value))
    .join(' · ');
}

function detail(key: string, value: unknown): string {
  if (typeof value === 'number') {
    if (key === 'round') return `round ${formatRound(value)}`;
    if (key.endsWith('Bytes')) return `${separated(key.slice(0, -5))} ${formatBytes(value)}`;
  }
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return `${separated(key)} ${/^[0-9a-f]{64}$/.test(text) ? formatHash(text) : text}`;
}

/** Words of an identifier: `documentVersion`, `run.approved`, `set_aside`. */
function separated(name: string): string {
  return name
    .replaceAll(/[._-]+/g, ' ')
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1 $2')
    .toLowerCase();
}
