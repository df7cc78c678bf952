/** Who uses these screens, and signs of them that keep their session from locking. */
import { useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import type { Me } from '../../core/api/contract.ts';
import { type Role, roleWords } from '../../core/config/roles.ts';
import { api } from './client.ts';
import { keys, useMe } from './queries.ts';

/** How often the agent hears that somebody is there, at most. */
const signEveryMs = 30_000;

/** While mounted: a key, a click or a movement is a sign of a person; what the page asks by itself is none. */
export function useSignsOfAPerson({ hasPassword, state }: Me): void {
  const queries = useQueryClient();
  const isWatched = hasPassword && state === 'open';
  useEffect(() => {
    if (!isWatched) return;
    let last = 0;
    const onSign = () => {
      if (Date.now() - last < signEveryMs) return;
      last = Date.now();
      // Refused: the session has locked or ended, which `me` then says.
      api.people.active.mutate().catch(() => queries.invalidateQueries({ queryKey: keys.me }));
    };
    const signs = ['pointerdown', 'pointermove', 'keydown', 'wheel'] as const;
    for (const sign of signs) window.addEventListener(sign, onSign, { passive: true });
    return () => {
      for (const sign of signs) window.removeEventListener(sign, onSign);
    };
  }, [isWatched, queries]);
}

/** Why the person who is here may not do something; null when they may. */
export function useMissingRole(needs: readonly Role[]): string | null {
  const me = useMe();
  // Until it is known the agent itself decides.
  if (me.data === undefined || needs.some((role) => me.data.roles.includes(role))) return null;
  const roles = needs.map((role) => `“${roleWords[role].label}”`).join(' or ');
  return `Needs the role ${roles}; ask an administrator.`;
}

/** What anybody's answer says of the person: written into the cache, and everything of the person before goes. */
export function useBecome(): (me: Me) => void {
  const queries = useQueryClient();
  return (me) => {
    queries.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== keys.me[0] });
    queries.setQueryData(keys.me, me);
  };
}
