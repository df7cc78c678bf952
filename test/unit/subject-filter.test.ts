import { expect, test } from 'vitest';
import type { PurposeConsent, SubjectRow } from '../../core/api/contract.ts';
import { choicesOf, endsSoon, filterSubjects, noFilter } from '../../renderer/format/subject-filter.ts';

const now = Date.parse('2026-11-30T12:00:00Z');
const inDays = (days: number) => new Date(now + days * 86_400_000).toISOString();

function consent(
  purpose: string,
  status: PurposeConsent['status'],
  until: number | null = null,
  next?: number,
) {
  const term = (from: number, end: number | null) => ({
    ...{ eventId: 1, documentVersion: '1', from: inDays(from), firstDay: null, lastDay: null },
    until: end === null ? null : inDays(end),
    ...{ recordedAt: '', recordedBy: '', givenBy: null, verifiedOn: null, reference: null },
  });
  return {
    ...{ purpose, status, withdrawal: null },
    term: status === 'withdrawn' ? null : term(-30, until),
    next: next === undefined ? null : term(next, null),
  } satisfies PurposeConsent;
}

const row = (pseudonym: string, labels: string[], consents: PurposeConsent[]): SubjectRow => ({
  ...{ pseudonym, labels, consents, images: 1 },
  ...{ consent: 'none', purpose: null, documentVersion: null, expiresAt: null },
});

const rows = [
  row('Zoë-7', ['affected'], [consent('train', 'active', 50), consent('teach', 'withdrawn')]),
  row('P_2', ['unaffected'], [consent('train', 'active', 10)]),
  row('P%3', ['affected', 'unaffected'], [consent('train', 'expired', -5), consent('teach', 'active')]),
  row('P4', ['unaffected'], []),
  row('P5', ['unaffected'], [consent('train', 'active', 20, 15)]),
];
const found = (filter: Partial<typeof noFilter>) =>
  filterSubjects(rows, { ...noFilter, ...filter }, now).map(({ pseudonym }) => pseudonym);

test.each([
  ['nothing', {}, ['Zoë-7', 'P_2', 'P%3', 'P4', 'P5']],
  [
    'a part of a pseudonym, in another case and another way of writing ë',
    { search: ' ZOe\u0308' },
    ['Zoë-7'],
  ],
  ['a sign that is special elsewhere', { search: '%' }, ['P%3']],
  ['a part of a label', { search: 'UNAFF' }, ['P_2', 'P%3', 'P4', 'P5']],
  ['a label as a whole', { label: 'affected' }, ['Zoë-7', 'P%3']],
  ['a state of any purpose', { status: 'active' }, ['Zoë-7', 'P_2', 'P%3', 'P5']],
  ['a state of one purpose', { status: 'active', purpose: 'teach' }, ['P%3']],
  ['a purpose', { purpose: 'teach' }, ['Zoë-7', 'P%3']],
  ['nobody asked', { status: 'none' }, ['P4']],
  ['not asked about one purpose', { status: 'none', purpose: 'teach' }, ['P_2', 'P4', 'P5']],
  ['what ends soon, the earliest first', { status: 'ends-soon' }, ['P_2', 'Zoë-7']],
] as const)('finds by %s', (_what, filter, expected) => {
  expect(found(filter)).toEqual(expected);
});

test('a consent ends soon until its last moment, unless another goes on from there', () => {
  expect(endsSoon(consent('train', 'active', 60), now)).toBe(true);
  expect(endsSoon(consent('train', 'active', 60.01), now)).toBe(false);
  expect(endsSoon(consent('train', 'active', 30, 31), now)).toBe(true);
  expect(endsSoon(consent('train', 'active', 30, 30), now)).toBe(false);
  expect(endsSoon(consent('train', 'expired', -1), now)).toBe(false);
});

test('choices are what the rows have', () => {
  expect(choicesOf(rows)).toEqual({ purposes: ['teach', 'train'], labels: ['affected', 'unaffected'] });
});
