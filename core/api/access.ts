/**
 * Who may use the API when it listens on loopback. Any local program can open 127.0.0.1, so a browser must
 * first give the access code that the terminal printed; it then holds a session cookie. The code is never
 * part of a URL (it would end up in histories and logs). Where there are user accounts it only opens the door: behind it
 * people sign in by name (core/people).
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { cookieOf } from './session-cookie.ts';

const maxAttemptsPerMinute = 10;

export interface AccessControl {
  readonly code: string;
  /** The cookie to set for a right code, or null. */
  signIn(code: string): string | null;
  allows(request: IncomingMessage): boolean;
}

/** 50 random bits in a form that is easy to type: `ABCDE-FGHJK`. */
function createCode(): string {
  const alphabet = 'ABCDEFGHJKLMNPQRSTUVWXYZ23456789';
  const letters = [...randomBytes(10)].map((byte) => alphabet[byte % 32]).join('');
  return `${letters.slice(0, 5)}-${letters.slice(5)}`;
}

function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

/** @param port where the screens are served: cookies know no ports, so two Anneals on 127.0.0.1 need two names */
export function createAccessControl(port: () => number, now: () => number = Date.now): AccessControl {
  const cookieName = () => `anneal_session_${port()}`;
  const code = createCode();
  const sessions = new Set<string>();
  let attempts: number[] = [];
  return {
    code,
    signIn(given) {
      attempts = attempts.filter((at) => at > now() - 60_000);
      if (attempts.length >= maxAttemptsPerMinute) return null;
      attempts.push(now());
      if (!sameSecret(given.trim().toUpperCase(), code)) return null;
      attempts = [];
      const session = randomBytes(32).toString('base64url');
      sessions.add(session);
      return `${cookieName()}=${session}; HttpOnly; SameSite=Strict; Path=/`;
    },
    allows(request) {
      const session = cookieOf(request, cookieName());
      return session !== null && sessions.has(session);
    },
  };
}
