import { describe, expect, test } from 'vitest';
import {
  formatBytes,
  formatCompact,
  formatCount,
  formatDate,
  formatDateTime,
  formatDay,
  formatDuration,
  formatLoss,
  formatPercent,
  formatPlural,
  formatRelative,
  formatRounds,
  savedShare,
} from '../../renderer/format/format.ts';

describe('formatBytes', () => {
  test.each([
    [0, '0 bytes'],
    [1, '1 byte'],
    [999, '999 bytes'],
    [1000, '1 kB'],
    [1530, '1.53 kB'],
    [86_420_000, '86.4 MB'],
    [999_499, '999 kB'],
    [999_500, '1 MB'],
    [9_994_999, '9.99 MB'],
    [9_995_000, '10 MB'],
    [4_200_000_000, '4.2 GB'],
    [3e15, '3000 TB'],
  ])('%d reads %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test('an unknown size is a dash', () => {
    expect(formatBytes(null)).toBe('–');
  });
});

describe('formatPercent', () => {
  test.each([
    [0, '0 %'],
    [1, '100 %'],
    [0.875, '87.5 %'],
    [0.9999, '99.9 %'],
    [0.00001, '0 %'],
    [null, '–'],
  ])('%s reads %s', (share, text) => {
    expect(formatPercent(share)).toBe(text);
  });

  test('a parameter reduction just below everything never reads as everything', () => {
    expect(formatPercent(0.99996, 2)).toBe('99.99 %');
  });
});

describe('figures', () => {
  test('counts have thousands separators, large ones a short form', () => {
    expect(formatCount(12_345)).toBe('12,345');
    expect(formatCompact(21_300_000)).toBe('21.3 million');
    expect(formatCount(null)).toBe('–');
  });

  test('a loss that is not a number is a dash, not "NaN"', () => {
    expect(formatLoss(0.48249)).toBe('0.482');
    expect(formatLoss(Number.NaN)).toBe('–');
  });

  test('one thing is singular', () => {
    expect(formatPlural(1, 'image')).toBe('1 image');
    expect(formatPlural(0, 'image')).toBe('0 images');
    expect(formatPlural(2, 'person', 'people')).toBe('2 people');
  });

  test('rounds are counted from 1 and joined to ranges', () => {
    expect(formatRounds([0, 1, 2, 5])).toBe('1–3, 6');
    expect(formatRounds([4, 4, 3])).toBe('4–5');
    expect(formatRounds([])).toBe('–');
  });

  test('the saved share of nothing is unknown', () => {
    expect(savedShare(4, 100)).toBeCloseTo(0.96, 12);
    expect(savedShare(4, 0)).toBeNull();
  });
});

describe('moments', () => {
  test('date and time of the named zone', () => {
    const late = '2026-11-22T23:30:00.000Z';
    expect(formatDate(late, 'UTC', 'en-GB')).toBe('22 Nov 2026');
    expect(formatDateTime(late, 'Europe/Berlin', 'en-GB')).toBe('23 Nov 2026, 00:30');
  });

  test.each([
    ['en-GB', '31 Dec 2026'],
    ['en-US', 'Dec 31, 2026'],
    ['de-DE', '31. Dez. 2026'],
    ['ar-EG', '٣١ ديسمبر ٢٠٢٦'],
  ])('a day stays that day in %s, wherever the reader is', (locale, expected) => {
    const { TZ } = process.env;
    try {
      for (const zone of ['UTC', 'Pacific/Kiritimati', 'Pacific/Pago_Pago']) {
        process.env['TZ'] = zone;
        expect(formatDay('2026-12-31', locale)).toBe(expected);
      }
    } finally {
      if (TZ === undefined) delete process.env['TZ'];
      else process.env['TZ'] = TZ;
    }
  });

  test('the reader’s own way of writing dates is the default', () => {
    const day = { day: 'numeric', month: 'short', year: 'numeric' } as const;
    const expected = new Intl.DateTimeFormat(navigator.language, day).format(new Date(2026, 11, 31));
    expect(formatDay('2026-12-31')).toBe(expected);
    expect(formatDay('31.12.2026')).toBe('–');
  });

  test('what is no date is a dash', () => {
    expect(formatDate('soon')).toBe('–');
    expect(formatDateTime(null)).toBe('–');
    expect(formatRelative('soon')).toBe('–');
  });

  test.each([
    [-20_000, 'just now'],
    [-60_000, '1 minute ago'],
    [-59 * 60_000, '59 minutes ago'],
    [-3 * 3_600_000, '3 hours ago'],
    [2 * 3_600_000, 'in 2 hours'],
    [-3 * 86_400_000, '3 days ago'],
  ])('%d ms away reads %s', (differenceMs, text) => {
    const nowMs = Date.parse('2026-11-22T12:00:00.000Z');
    expect(formatRelative(new Date(nowMs + differenceMs).toISOString(), nowMs)).toBe(text);
  });

  test.each([
    [400, '0 s'],
    [45_000, '45 s'],
    [120_000, '2 min'],
    [200_000, '3 min 20 s'],
    [3_900_000, '1 h 5 min'],
    [7_200_000, '2 h'],
  ])('%d ms last %s', (durationMs, text) => {
    expect(formatDuration(durationMs)).toBe(text);
  });
});
