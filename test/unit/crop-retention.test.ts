/** A crop goes with the last consent, at once or when its time is up, and never because a clock has jumped. */
import { describe, expect, test } from 'vitest';
import { defaultSitePolicy, type SitePolicy } from '../../core/config/site-policy.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { createClockTrust, longestGapMs, runningDayMs } from '../../core/rights/clock-trust.ts';
import { cropDeletedReason, dropDueCrops, keepCrops } from '../../core/rights/crop-retention.ts';
import { setPolicy } from '../../core/site/policy.ts';
import type { Store } from '../../core/store/store.ts';
import { addImage, openTestStore } from '../fixtures/store.ts';

const purpose = 'federated-training';
const grant = (store: Store, pseudonym: string, change: { purpose?: string; expiresAt?: string } = {}) =>
  recordConsent(store, {
    ...{ pseudonym, purpose, documentVersion: '1', validFrom: '2026-01-01', recordedBy: 'desk' },
    ...change,
  });
const withdraw = (store: Store, pseudonym: string, from?: string) =>
  withdrawConsent(store, { pseudonym, recordedBy: 'desk', ...(from !== undefined && { purpose: from }) });
const rules = (store: Store, change: Partial<SitePolicy>) =>
  setPolicy(store, { ...defaultSitePolicy, ...change }, 'test');
const drop = (store: Store, trustsClock = true) => dropDueCrops(store, { trustsClock });
const day = 24 * 3_600_000;

describe('the crops of a subject', () => {
  test('go at once with the withdrawal of the last consent, and the rows say why', () => {
    using opened = openTestStore();
    const { store } = opened;
    const id = addImage(store, 'P1', 'one');
    const other = addImage(store, 'P2', 'two');
    for (const pseudonym of ['P1', 'P2']) grant(store, pseudonym);
    const crop = store.images.get(id)!.cropSha256!;
    withdraw(store, 'P1');

    const pass = drop(store, false);

    expect(pass).toMatchObject({ images: 1, subjects: 1, waiting: 0, files: [crop] });
    expect(store.images.get(id)).toMatchObject({
      ...{ status: 'set-aside', reason: cropDeletedReason, cropSha256: null },
    });
    expect(store.images.get(other)).toMatchObject({ status: 'ready' });
    const [row] = store.audit.page({ limit: 1 });
    expect(row).toMatchObject({
      action: 'crops.deleted',
      details: { subject: store.subjects.refOf('P1'), images: 1 },
    });
    expect(drop(store)).toMatchObject({ images: 0 });
  });

  test('go when the consent was shortened, also where an older one would have held longer or begun later', () => {
    using opened = openTestStore();
    const { store, clock } = opened;
    addImage(store, 'P1', 'one');
    grant(store, 'P1', { expiresAt: '2031-01-01' });
    const said = { pseudonym: 'P1', purpose, documentVersion: '1', recordedBy: 'desk' };
    recordConsent(store, { ...said, validFrom: '2028-01-01', expiresAt: '2040-01-01' });
    recordConsent(store, { ...said, validFrom: '2026-11-01', expiresAt: '2026-12-31T00:00:00Z' });
    expect(drop(store)).toMatchObject({ images: 0, nextAt: '2026-12-31T00:00:00.000Z' });

    clock.now = new Date('2026-12-31T00:00:00.000Z');

    expect(drop(store)).toMatchObject({ images: 1 });
  });

  test('stay while a consent to another purpose holds', () => {
    using opened = openTestStore();
    const { store } = opened;
    addImage(store, 'P1', 'one');
    grant(store, 'P1');
    grant(store, 'P1', { purpose: 'teaching' });
    withdraw(store, 'P1', purpose);

    const first = drop(store).images;
    withdraw(store, 'P1', 'teaching');

    expect([first, drop(store).images]).toEqual([0, 1]);
  });

  test('go when the last consent runs out, unless a later one begins', () => {
    using opened = openTestStore('2026-11-22T12:00:00.000Z');
    const { store, clock } = opened;
    for (const pseudonym of ['P1', 'P2', 'P3']) addImage(store, pseudonym, `of ${pseudonym}`);
    grant(store, 'P1', { expiresAt: '2026-11-30T00:00:00.000Z' });
    grant(store, 'P2', { expiresAt: '2026-11-30T00:00:00.000Z' });
    recordConsent(store, {
      ...{ pseudonym: 'P2', purpose, documentVersion: '2', recordedBy: 'desk', validFrom: '2026-12-24' },
    });
    grant(store, 'P3');

    const before = drop(store);
    clock.now = new Date('2026-11-30T00:00:00.000Z');

    expect(before).toMatchObject({ images: 0, nextAt: '2026-11-30T00:00:00.000Z' });
    expect(drop(store)).toMatchObject({ images: 1, nextAt: null });
    expect(store.images.list({ status: 'ready' }).map(({ pseudonym }) => pseudonym)).toEqual(['P2', 'P3']);
  });

  test('stay if the person chose so, and go when the person changes that', () => {
    using opened = openTestStore();
    const { store } = opened;
    addImage(store, 'P1', 'one');
    grant(store, 'P1');
    keepCrops(store, store.subjects.byPseudonym('P1')!, true, 'desk');
    withdraw(store, 'P1');

    const kept = drop(store).images;
    keepCrops(store, store.subjects.byPseudonym('P1')!, false, 'desk');

    expect([kept, drop(store).images]).toEqual([0, 1]);
  });

  test('stay for the days that the policy gives, and without any consent as long as it says', () => {
    using opened = openTestStore('2026-11-22T12:00:00.000Z');
    const { store, clock } = opened;
    rules(store, { keepCropsDays: 10, maxDaysWithoutConsent: 20 });
    addImage(store, 'P1', 'one');
    addImage(store, 'P2', 'never asked');
    grant(store, 'P1');
    withdraw(store, 'P1');
    const droppedAfter = (days: number) => {
      clock.now = new Date(Date.parse('2026-11-22T12:00:00.000Z') + days * day);
      return drop(store).images;
    };

    expect([
      droppedAfter(0),
      droppedAfter(9.9),
      droppedAfter(10),
      droppedAfter(19.9),
      droppedAfter(20),
    ]).toEqual([0, 0, 1, 0, 1]);
  });

  test('of whom no consent was recorded stay by default', () => {
    using opened = openTestStore();
    addImage(opened.store, 'P1', 'one', { importedAt: '2001-01-01T00:00:00.000Z' });

    expect(drop(opened.store)).toMatchObject({ images: 0, nextAt: null });
  });
});

describe('a clock in doubt', () => {
  /** A site that looks each hour, and is off in between for a while. */
  const prepare = () => {
    const opened = openTestStore('2026-11-22T12:00:00.000Z');
    const { store, clock } = opened;
    let uptime = 0;
    addImage(store, 'P1', 'one');
    grant(store, 'P1', { expiresAt: '2027-06-30' });
    const start = () => createClockTrust(store, () => uptime);
    const pass = (trust: ReturnType<typeof start>, ms: number) => {
      uptime += ms;
      clock.now = new Date(clock.now.getTime() + ms);
      return drop(store, trust.look());
    };
    return { ...opened, start, pass, [Symbol.dispose]: () => opened[Symbol.dispose]() };
  };

  test('deletes nothing that only the time ends, but what a person withdrew', () => {
    using world = prepare();
    const { store, clock, start } = world;
    const trust = start();
    expect(trust.look()).toBe(true);
    addImage(store, 'P2', 'two');
    grant(store, 'P2');

    clock.now = new Date('2028-01-01T00:00:00.000Z');
    const jumped = trust.look();
    const held = drop(store, jumped);
    withdraw(store, 'P2');

    expect(jumped).toBe(false);
    expect(held).toMatchObject({ images: 0, waiting: 1 });
    expect(drop(store, trust.look())).toMatchObject({ images: 1, waiting: 1 });
  });

  test('that is set right again has deleted nothing', () => {
    using world = prepare();
    const { store, clock, start } = world;
    const trust = start();
    trust.look();
    clock.now = new Date('2028-01-01T00:00:00.000Z');
    drop(store, trust.look());
    clock.now = new Date('2026-11-22T13:00:00.000Z');

    expect(drop(store, trust.look()).images).toBe(0);
    expect(store.images.list({ status: 'ready' })).toHaveLength(1);
  });

  test('is believed after a day of running, over restarts, or when a person says so', () => {
    using world = prepare();
    const { store, clock, start, pass } = world;
    start().look();
    clock.now = new Date('2028-01-01T00:00:00.000Z');
    const hours = [...Array(12).keys()];
    const first = start();
    for (const _ of hours) expect(pass(first, 3_600_000).images).toBe(0);
    const second = start();
    for (const _ of hours.slice(1)) expect(pass(second, 3_600_000).images).toBe(0);

    expect(pass(second, 3_600_000).images).toBe(1);

    using other = prepare();
    const trust = other.start();
    trust.look();
    other.clock.now = new Date('2028-01-01T00:00:00.000Z');
    expect(trust.look()).toBe(false);
    trust.confirm('anna');
    expect(drop(other.store, trust.look()).images).toBe(1);
    expect(other.store.audit.newestOf('retention.clock-confirmed')).toMatchObject({ actor: 'anna' });
    expect(store.audit.newestOf('retention.clock-confirmed')).toBeNull();
  });

  test('that was ahead and is confirmed is right for consents, too, and is believed', () => {
    using world = prepare();
    const { store, clock, start } = world;
    const trust = start();
    clock.now = new Date('2036-01-01T00:00:00.000Z');
    store.clock.remember(true);
    clock.now = new Date('2026-11-23T12:00:00.000Z');
    expect(trust.look()).toBe(false);

    trust.confirm('anna');

    expect(store.clock.fault()).toBeNull();
    expect(trust.look()).toBe(true);
    expect(store.audit.newestOf('clock-confirmed')).toMatchObject({ actor: 'anna' });
  });

  test('a site that was off for a month is not in doubt', () => {
    using world = prepare();
    world.start().look();
    world.clock.now = new Date(world.clock.now.getTime() + longestGapMs);

    expect(world.start().look()).toBe(true);
  });

  test('a day of running is a day', () => expect(runningDayMs).toBe(day));
});
