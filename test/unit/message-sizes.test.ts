/** The largest message that a schema allows fits an envelope; only a manifest may be larger, and it has a way of its own. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { defaultRunConfig, type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { defaultSitePolicy } from '../../core/config/site-policy.ts';
import { maxCountedClasses, maxImages, maxScoredClasses, scoreBins } from '../../core/evaluation/counts.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { maxEnvelopeBytes, sealEnvelope } from '../../core/transport/envelope.ts';
import {
  blobRequestSchema,
  coordinatorToSite,
  manifestBodies,
  manifestProtocol,
  manifestSchema,
  maxManifestBytes,
  maxParticipants,
  presenceSchema,
  refuseUnsendable,
  siteToCoordinator,
  writtenManifest,
} from '../../core/transport/messages.ts';
import { signerOf } from '../contract/test-brokers.ts';

/** Each code unit as long as JSON can make it. */
const longText = (length: number) => '\u0001'.repeat(length);
const steps = 1_000_000_000;
const uuid = 'ffffffff-ffff-4fff-bfff-ffffffffffff';
const hash = 'f'.repeat(64);
const runId = longText(64);
const loss = -1e6 / 3;
const blob = { sha256: hash, sizeBytes: 2 ** 31, chunkBytes: 262_144 };
const inRound = { runId, round: 1_000_000 };

function counts(classes: number, withScores: boolean) {
  const images = maxImages;
  const row = { total: null, correct: null, predicted: null };
  const perImage = Math.floor(images / 101);
  const calibration = Array.from({ length: 101 }, (_, confidence) => ({
    confidence,
    total: confidence === 0 ? images - 100 * perImage : perImage,
    correct: 0,
  }));
  const blocks = Array.from({ length: scoreBins }, (_, bin) => [bin, bin, 0, images / scoreBins]);
  return {
    ...{ smallCell: 1, classes, total: images, correct: 0, top5: images, calibration },
    perClass: classes <= maxCountedClasses ? Array.from({ length: classes }, () => row) : null,
    scores: withScores ? Array.from({ length: classes }, () => blocks) : null,
  };
}

const evaluation = (classes: number, withScores: boolean) => ({
  ...{ runId, stateSha256: hash, correct: 0, total: maxImages, counts: counts(classes, withScores) },
});

test.each([
  [
    'hello',
    {
      ...{ name: longText(200), version: longText(64), baseIds: Array(100).fill(longText(64)) },
      policy: {
        ...defaultSitePolicy,
        purposes: Array(20).fill(longText(200)),
        baseModels: Array(100).fill(hash),
        quietHours: '23:00-22:59',
      },
    },
  ],
  ['progress', { ...inRound, step: steps, steps, loss }],
  ['evaluation', evaluation(maxScoredClasses, true)],
  ['evaluation', evaluation(maxCountedClasses, false)],
  ['announce', { ...inRound, update: blob, examples: maxImages, meanLoss: loss, steps }],
  ['declined', { ...inRound, reason: longText(500) }],
  ['receipt', { ...inRound, updateSha256: hash, accepted: false, reason: longText(500), kind: 'final' }],
  ['welcome', { coordinatorName: longText(200), version: longText(64) }],
  ['ack', { messageId: uuid }],
  ['presence', { online: false, session: uuid }],
  ['blob-request', { sha256: hash, chunkBytes: 262_144, indices: Array(4).fill(2 ** 21) }],
  ['manifest-blob', { ...blob, sizeBytes: maxManifestBytes }],
] as const)('the largest %s fits', (type, body) => {
  const schemas = {
    ...{ ...siteToCoordinator, ...coordinatorToSite, ...manifestBodies },
    ...{ presence: presenceSchema, 'blob-request': blobRequestSchema },
  };
  const name = 'a'.repeat(64);
  const signer = { ...signerOf('site-a'), id: name };

  const parsed = schemas[type].parse(body);
  const sealed = sealEnvelope({ federation: name, recipient: name, type, body: parsed }, signer);

  expect(sealed.length).toBeLessThanOrEqual(maxEnvelopeBytes);
});

const base = { baseId: 'base', baseSha256: hash };
const config = (change: Partial<RunConfig>) =>
  runConfigSchema.parse(defaultRunConfig({ ...base, classes: ['a', 'b'], ...change }));

test('settings that are not refused fit a manifest with all participants and parts of a frozen base that it may name', () => {
  const plan = {
    ...{ round: 999, stage: 'initiating', mode: 'last-k', rank: 256, proximal: loss * -1 },
    ...{ learningRateFactor: 1 / 3, trains: 'both', sends: 'both' },
  };
  const size = fc.record({
    count: fc.integer({ min: 2, max: 20_000 }),
    length: fc.integer({ min: 6, max: 600 }),
  });
  let [held, refused] = [0, 0];
  fc.assert(
    fc.property(size, ({ count, length }) => {
      const classes = Array.from({ length: count }, (_, index) => String(index).padStart(length, 'x'));
      const settings = config({ classes, rounds: 1000, participation: 0.9 });
      try {
        refuseUnsendable(settings, maxParticipants);
      } catch (error) {
        expect(error).toMatchObject({
          code: 'CONFIG_INVALID',
          message: expect.stringMatching(/[\d.]+ MiB.* 7\.0 MiB/),
        });
        refused++;
        return;
      }
      const manifest = manifestSchema.parse({
        ...{ ...inRound, config: settings, configSha256: sha256('x'), phase: 'evaluate', plan, state: blob },
        ...{ protocol: manifestProtocol, contractSha256: sha256('y'), contributors: maxParticipants },
        foundation: Array(1001).fill(blob),
        participants: Array(maxParticipants).fill('s'.repeat(64)),
        deadlineAt: '2026-11-22T12:00:00.000Z',
      });
      expect(Buffer.byteLength(JSON.stringify(writtenManifest(manifest)))).toBeLessThanOrEqual(
        maxManifestBytes,
      );
      held++;
    }),
    {
      numRuns: 15,
      examples: [
        [{ count: 10_000, length: 40 }],
        [{ count: 20_000, length: 600 }],
        [{ count: 20_000, length: 360 }],
      ],
    },
  );
  expect(Math.min(held, refused)).toBeGreaterThan(0);
});

test('a run that draws participants is refused where there are more sites than a manifest names', () => {
  const drawing = config({ participation: 0.9 });

  expect(() => refuseUnsendable(drawing, 10_000)).not.toThrow();
  expect(() => refuseUnsendable(drawing, 10_001)).toThrow(/at most 10000 participants.*10001 sites/);
  expect(() => config({ participation: 0.9, quorum: 10_001 })).toThrow(/quorum/);
  expect(() => refuseUnsendable(config({}), 50_000)).not.toThrow();
});
