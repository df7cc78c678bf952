import { expect, test } from 'vitest';
import type { PurposeConsent, SubjectRow } from '../../core/api/contract.ts';
import { purposeOf } from '../../core/consent/purposes.ts';
import type { ConsentEventRecord } from '../../core/store/records.ts';
import { validWords } from '../../renderer/format/consent-words.ts';
import { choicesOf, endsSoon, filterSubjects, noFilter } from '../../renderer/format/subject-filter.ts';

const now = Date.parse('2026-11-30T12:00:00Z');
const inDays = (days: number) => new Date(now + days * 86_400_000).toISOString();

/** Days from now; no end: null. */
type Grant = readonly [from: number, until: number | null];

/** As the site tells the screens of consents that were recorded one after the other. */
function consent(purpose: string, grants: readonly Grant[], isWithdrawn = false): PurposeConsent {
  const event = (id: number): Omit<ConsentEventRecord, 'kind' | 'validFrom' | 'expiresAt'> => ({
    ...{ id, subjectId: 1, purpose, documentVersion: '1', recordedAt: inDays(-40), recordedBy: 'anna' },
    ...{ givenBy: null, verifiedOn: null, reference: null, afterWithdrawal: null },
  });
  const events: ConsentEventRecord[] = grants.map(([from, until], index) => ({
    ...{ ...event(index + 1), kind: 'grant', validFrom: inDays(from) },
    expiresAt: until === null ? null : inDays(until),
  }));
  if (isWithdrawn) events.push({ ...event(99), kind: 'withdraw', validFrom: inDays(-1), expiresAt: null });
  return purposeOf(events, purpose, { at: inDays(0), zone: 'UTC' });
}

const row = (pseudonym: string, labels: string[], consents: PurposeConsent[]): SubjectRow => ({
  ...{ pseudonym, labels, consents, images: 1 },
  ...{ consent: 'none', purpose: null, documentVersion: null, expiresAt: null },
});

const rows = [
  row('Zoë-7', ['affected'], [consent('train', [[-30, 50]]), consent('teach', [[-30, null]], true)]),
  row('P_2', ['unaffected'], [consent('train', [[-30, 10]])]),
  row('P%3', ['affected', 'unaffected'], [consent('train', [[-30, -5]]), consent('teach', [[-30, null]])]),
  row('P4', ['unaffected'], []),
  row(
    'P5',
    ['unaffected'],
    [
      consent('train', [
        [-30, 20],
        [15, null],
      ]),
    ],
  ),
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

test.each<[string, boolean, Grant[]]>([
  ['on its last moment', true, [[-30, 60]]],
  ['not before', false, [[-30, 60.01]]],
  [
    'though another begins after it',
    true,
    [
      [-30, 30],
      [31, null],
    ],
  ],
  [
    'not when another goes on from there',
    false,
    [
      [-30, 30],
      [30, null],
    ],
  ],
  [
    'when the one that goes on ends within the days, too',
    true,
    [
      [-30, 10],
      [5, 40],
    ],
  ],
  [
    'not when that one goes on for longer',
    false,
    [
      [-30, 10],
      [5, 61],
    ],
  ],
  ['not when it has ended', false, [[-30, -1]]],
  ['not when it never ends', false, [[-30, null]]],
  [
    'when a shorter term replaced it',
    true,
    [
      [-30, 300],
      [-20, 20],
    ],
  ],
])('a consent ends soon: %s', (_when, expected, grants) => {
  expect(endsSoon(consent('train', grants), now)).toBe(expected);
});

test('the end in words is that of a consent that holds or has held', () => {
  const words = (given: PurposeConsent) => validWords(given, 'en-GB');
  expect(words(consent('train', [[-30, -5.5]]))).toBe('ended 24 Nov 2026');
  expect(words(consent('train', [[-30, null]]))).toBe('no end date');
  const never = (Date.parse('9999-12-31T00:00:00Z') - now) / 86_400_000;
  expect(words(consent('train', [[-30, never]]))).toBe('no end date');
  expect(words(consent('train', [[-30, null]], true))).toBe('');
});

test('choices are what the rows have', () => {
  expect(choicesOf(rows)).toEqual({ purposes: ['teach', 'train'], labels: ['affected', 'unaffected'] });
});
