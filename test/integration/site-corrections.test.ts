/** No update leaves that was trained on a label, a person or a split that was corrected meanwhile. */
import { expect, test, vi } from 'vitest';
import type { CorrectionInput } from '../../core/config/correction.ts';
import { withdrawConsent } from '../../core/consent/consent.ts';
import { traceSubject } from '../../core/consent/trace.ts';
import { correctImages } from '../../core/data/corrections.ts';
import {
  announcement,
  firstManifest,
  openInterrupted,
  timeoutMs,
  trainingImages,
} from '../fixtures/interrupted-site.ts';
import { type LoneSite, openLoneSite } from '../fixtures/lone-site.ts';
import { shapeClasses } from '../fixtures/shape-crops.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const correct = ({ store }: LoneSite, input: Partial<CorrectionInput>) =>
  correctImages(
    store,
    { pseudonym: 'P0', reason: 'typing-error', ...input },
    { classes: shapeClasses, purpose: 'federated-training', actor: 'anna' },
  );
const otherLabel = ({ store }: LoneSite) => {
  const own = store.images.list({ subjectId: store.subjects.byPseudonym('P0')!.id })[0]!.label;
  return shapeClasses.find((label) => label !== own)!;
};
const cohorts = ({ store }: LoneSite) => store.cohorts.byRun('run').map(({ superseded }) => superseded);

test.each<[string, (site: LoneSite) => unknown, number]>([
  ['another label', (site) => correct(site, { label: otherLabel(site) }), trainingImages],
  ['another person', (site) => correct(site, { subject: 'P1' }), trainingImages],
  ['held out', (site) => correct(site, { split: 'test', confirmed: ['was-trained'] }), trainingImages - 3],
])(
  'an image that is corrected (%s) while the finished update is written is trained anew before anything is announced',
  async (_what, doCorrect, examples) => {
    using folder = temporaryFolder();
    await using site = await openInterrupted(folder.dir, doCorrect);

    site.node.receiveManifest(await firstManifest(site, folder.dir));
    const row = await announcement(site);

    expect(row.examples).toBe(examples);
    expect(site.sent.filter(({ type }) => type === 'announce')).toHaveLength(1);
    expect(cohorts(site)).toEqual([true, false]);
    expect(row.cohortSha256).toBe(site.store.cohorts.byRun('run')[1]!.sha256);
  },
  timeoutMs,
);

test(
  'what was announced stays after a correction, but not when an image is of somebody who has withdrawn',
  async () => {
    using folder = temporaryFolder();
    await using site = await openLoneSite(folder.dir);
    site.node.receiveManifest(await firstManifest(site, folder.dir));
    await announcement(site);
    correct(site, { label: otherLabel(site) });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(cohorts(site)).toEqual([false]);

    withdrawConsent(site.store, { pseudonym: 'P4', recordedBy: 'test' });
    correct(site, { subject: 'P4', confirmed: ['other-split', 'was-trained', 'without-consent'] });

    await vi.waitFor(async () => expect((await announcement(site)).examples).toBe(trainingImages - 3), {
      timeout: timeoutMs,
    });
    // It may have arrived: the trace of the person whom the images show knows.
    expect(traceSubject(site.store, 'P4').runs).toMatchObject([{ runId: 'run' }]);
  },
  timeoutMs,
);
