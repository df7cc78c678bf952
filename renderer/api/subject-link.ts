import { base64Of, bytesOf } from './base64.ts';

/**
 * Address of a subject's page. A pseudonym may hold anything, `/`, `%` and `#` too, so it stands there as base64url of its
 * UTF-8, which no part of the way decodes or shortens.
 */
export function subjectPath(pseudonym: string): string {
  const text = base64Of(pseudonym);
  return `/dataset/subject/${text.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}`;
}

/** The pseudonym of an address's last part; null when it is none. */
export function pseudonymOf(part: string): string | null {
  try {
    const bytes = bytesOf(part.replaceAll('-', '+').replaceAll('_', '/'));
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}
