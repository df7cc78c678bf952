/** No update of a site leaves after a withdrawal unless it leaves out the subject, whenever the withdrawal comes. */
import { expect, test, vi } from 'vitest';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { traceSubject } from '../../core/consent/trace.ts';
import { AppError } from '../../core/shared/errors.ts';
import type { ManifestBody } from '../../core/transport/messages.ts';
import {
  announcement,
  firstManifest,
  openInterrupted,
  timeoutMs,
  trainingImages,
} from '../fixtures/interrupted-site.ts';
import { type LoneSite, openLoneSite } from '../fixtures/lone-site.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const withdraw = ({ store }: LoneSite, pseudonym: string) =>
  withdrawConsent(store, { pseudonym, recordedBy: 'test' });

const consentOf = ({ store }: LoneSite, expiresAt: string) =>
  recordConsent(store, {
    ...{ pseudonym: 'P0', purpose: 'federated-training', documentVersion: '2', recordedBy: 'test' },
    ...{ validFrom: '2026-02-01', expiresAt },
  });

test.each<[string, (site: LoneSite) => unknown]>([
  ['a withdrawal', (site) => withdraw(site, 'P0')],
  ['a consent of a shorter term, which is over,', (site) => consentOf(site, '2026-03-01')],
])(
  '%s while the finished update is written stops its announcement, whoever recorded it',
  async (_what, end) => {
    using folder = temporaryFolder();
    await using opened = await openInterrupted(folder.dir, end);

    opened.node.receiveManifest(await firstManifest(opened, folder.dir));
    const row = await announcement(opened);

    expect(row.examples).toBe(trainingImages - 3);
    const sent = opened.sent.filter(({ type }) => type === 'announce');
    expect(sent.map(({ body }) => 'examples' in body && body.examples)).toEqual([trainingImages - 3]);
    expect(traceSubject(opened.store, 'P0').runs).toEqual([]);
  },
  timeoutMs,
);

test(
  'a consent that ends by itself takes back what was announced and nobody has received',
  async () => {
    using folder = temporaryFolder();
    await using opened = await openInterrupted(folder.dir, (site) =>
      consentOf(site, new Date(Date.now() + 1500).toISOString()),
    );

    opened.node.receiveManifest(await firstManifest(opened, folder.dir));
    expect((await announcement(opened)).examples).toBe(trainingImages);
    const again = await vi.waitFor(
      () => {
        const row = opened.store.roundSites.get('run', 0, 'site')!;
        expect(row.examples).toBe(trainingImages - 3);
        return row;
      },
      { timeout: timeoutMs, interval: 50 },
    );

    expect(again.status).toBe('announced');
  },
  timeoutMs,
);

test(
  'a site that was stopped between a withdrawal and its consequences takes the announcement back when it starts',
  async () => {
    using folder = temporaryFolder();
    let manifest: ManifestBody;
    {
      await using first = await openLoneSite(folder.dir);
      manifest = await firstManifest(first, folder.dir);
      first.node.receiveManifest(manifest);
      expect((await announcement(first)).examples).toBe(trainingImages);
      withdraw(first, 'P0');
    }
    const retracted: [string, number][] = [];
    await using again = await openLoneSite(folder.dir, {
      ports: { retractAnnouncement: (runId, round) => void retracted.push([runId, round]) },
    });

    expect(retracted).toEqual([['run', 0]]);
    expect(again.store.roundSites.get('run', 0, 'site')?.status).toBe('working');
    again.node.receiveManifest(manifest);
    expect((await announcement(again)).examples).toBe(trainingImages - 3);
    // It may have arrived all the same.
    expect(traceSubject(again.store, 'P0').runs).toMatchObject([{ runId: 'run', rounds: [0] }]);
    // And it stays on record whoever withdraws next.
    withdraw(again, 'P1');
    await vi.waitFor(async () => expect((await announcement(again)).examples).toBe(trainingImages - 6), {
      timeout: timeoutMs,
    });
    for (const pseudonym of ['P0', 'P1'])
      expect(traceSubject(again.store, pseudonym).runs, pseudonym).toHaveLength(1);
  },
  timeoutMs,
);

test(
  'a withdrawal that finds no room on the disk ends training until it is written down',
  async () => {
    using folder = temporaryFolder();
    let isTraining = false;
    await using site = await openLoneSite(folder.dir, {
      onProgress: () => {
        isTraining = true;
      },
    });
    site.node.receiveManifest(await firstManifest(site, folder.dir));
    await vi.waitFor(() => expect(isTraining).toBe(true), { timeout: timeoutMs, interval: 5 });

    expect(() =>
      site.store.withReserve(() => {
        throw new AppError('DISK_FULL', 'There is no room.');
      }),
    ).toThrow('There is no room.');
    await vi.waitFor(
      () => expect(site.node.problem?.message).toMatch(/room that is left is for withdrawals/),
      {
        timeout: timeoutMs,
        interval: 50,
      },
    );
    expect(site.sent.filter(({ type }) => type === 'announce')).toEqual([]);

    withdraw(site, 'P0');

    expect((await announcement(site)).examples).toBe(trainingImages - 3);
    expect(site.sent.filter(({ type }) => type === 'announce')).toHaveLength(1);
  },
  timeoutMs,
);
