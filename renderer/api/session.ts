/** Whether this page may talk to the agent: a browser needs the access code that `anneal serve` prints. */
import { useSyncExternalStore } from 'react';

let locked = false;
const listeners = new Set<() => void>();

export function setLocked(next: boolean): void {
  if (next === locked) return;
  locked = next;
  for (const listener of listeners) listener();
}

/** True once the agent has answered 401, until a code was accepted. */
export function useLocked(): boolean {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => locked,
  );
}

/**
 * Trades the access code for the session cookie.
 * @returns false when the agent does not know the code
 * @throws TypeError when the agent cannot be reached
 */
export async function openSession(code: string): Promise<boolean> {
  const response = await fetch('/session', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ code }),
  });
  if (response.ok) setLocked(false);
  return response.ok;
}
