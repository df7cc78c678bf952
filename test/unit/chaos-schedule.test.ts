import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Fault, faultKinds, type ScheduleOptions, scheduleOf } from '../chaos/schedule.ts';

const drawn = faultKinds.filter((kind) => kind !== 'kill-broker');
const given: ScheduleOptions = {
  ...{ seed: 1, episode: 0, sites: 3, lengthMs: 60_000, everyMs: 3_000, kinds: drawn },
};

test('the same seed gives the same schedule, and another seed or episode another one', () => {
  fc.assert(
    fc.property(fc.integer(), fc.nat(1000), (seed, episode) => {
      const first = scheduleOf({ ...given, seed, episode });

      expect(scheduleOf({ ...given, seed, episode })).toEqual(first);
      expect(scheduleOf({ ...given, seed, episode: episode + 1 })).not.toEqual(first);
      expect(scheduleOf({ ...given, seed: seed + 1, episode })).not.toEqual(first);
    }),
    { numRuns: 50 },
  );
});

test('faults begin in the time given, in order, about as often as asked, and only against members that there are', () => {
  const members = new Set(['coordinator', 'site-0', 'site-1', 'site-2']);
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const faults = scheduleOf({ ...given, seed });

      expect(faults.map(({ atMs }) => atMs)).toEqual(faults.map(({ atMs }) => atMs).sort((a, b) => a - b));
      expect(faults.every(({ atMs }) => atMs >= 0 && atMs < given.lengthMs)).toBe(true);
      expect(faults.length).toBeGreaterThanOrEqual(12);
      expect(faults.length).toBeLessThanOrEqual(40);
      for (const fault of faults) if ('member' in fault) expect(members.has(fault.member)).toBe(true);
    }),
    { numRuns: 100 },
  );
});

test('every kind is drawn now and then, and none that was not asked for', () => {
  const seen = (kinds: ScheduleOptions['kinds']) =>
    new Set(
      Array.from({ length: 60 }, (_, episode) => scheduleOf({ ...given, kinds, episode }))
        .flat()
        .map(({ kind }: Fault) => kind),
    );

  expect([...seen(drawn)].sort()).toEqual([...drawn].sort());
  expect([...seen(['kill', 'withdraw'])].sort()).toEqual(['kill', 'withdraw']);
  expect(scheduleOf({ ...given, kinds: [] })).toEqual([]);
});

test('a broker of its own is killed at the distances asked for, beside all else', () => {
  const kinds = ['kill-broker'] as const;
  const kills = scheduleOf({ ...given, kinds, brokerEveryMs: [5_000, 20_000] });

  const apart = kills.map(({ atMs }, index) => atMs - (kills[index - 1]?.atMs ?? 0));
  expect(kills.length).toBeGreaterThanOrEqual(2);
  expect(Math.min(...apart)).toBeGreaterThanOrEqual(5_000);
  expect(Math.max(...apart)).toBeLessThanOrEqual(20_000);
});
