import type { IncomingMessage } from 'node:http';
import { expect, test } from 'vitest';
import { createAccessControl } from '../../core/api/access.ts';

const withCookie = (cookie: string) => ({ headers: { cookie } }) as IncomingMessage;
const pairOf = (setCookie: string) => setCookie.split(';')[0]!;

test('two Anneals on one address do not sign each other out', () => {
  const first = createAccessControl(() => 4747);
  const second = createAccessControl(() => 4748);

  const jar = new Map(
    [first.signIn(first.code)!, second.signIn(second.code)!].map((text) => {
      const [name, value] = pairOf(text).split('=');
      return [name!, value!] as const;
    }),
  );

  // As a browser keeps them: by name, whatever the port.
  const sent = withCookie([...jar].map(([name, value]) => `${name}=${value}`).join('; '));
  expect([first.allows(sent), second.allows(sent)]).toEqual([true, true]);
});

test('the eleventh try of a minute fails even with the right code, and a minute later it is let in', () => {
  let now = 0;
  const access = createAccessControl(
    () => 1,
    () => now,
  );
  for (let attempt = 0; attempt < 10; attempt++) access.signIn('WRONG-WRONG');

  const eleventh = access.signIn(access.code);
  now = 60_001;
  const later = access.signIn(access.code);

  expect(eleventh).toBeNull();
  expect(later).toMatch(/HttpOnly; SameSite=Strict/);
});
