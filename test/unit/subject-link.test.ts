import fc from 'fast-check';
import { expect, test } from 'vitest';
import { pseudonymOf, subjectPath } from '../../renderer/api/subject-link.ts';

test('any pseudonym has an address of letters, digits, - and _, and is read back from it', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 200 }), (pseudonym) => {
      const path = subjectPath(pseudonym);
      expect(path).toMatch(/^\/dataset\/subject\/[\w-]+$/);
      expect(pseudonymOf(path.split('/').at(-1)!)).toBe(pseudonym);
    }),
  );
});

test.each(['P/1', '..', '%2F', 'a#b?c', 'Zoë-7', '王'])('%s', (pseudonym) => {
  expect(pseudonymOf(subjectPath(pseudonym).split('/').at(-1)!)).toBe(pseudonym);
});

test('what is no address of a subject is none', () => {
  for (const part of ['%', '***', '_w']) expect(pseudonymOf(part)).toBeNull();
});
