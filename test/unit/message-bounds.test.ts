/**
 * Every number, text and list that a peer may send has a bound in its schema. The schemas are walked, so that a field
 * added later without one fails here; the manifest is a contract of its own.
 */
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { joinAnswers, joinRequestSchema } from '../../core/enrolment/join-messages.ts';
import { maxImages } from '../../core/evaluation/counts.ts';
import { envelopeSchema } from '../../core/transport/envelope.ts';
import {
  blobRequestSchema,
  boundedLoss,
  coordinatorToSite,
  manifestBodies,
  presenceSchema,
  siteToCoordinator,
} from '../../core/transport/messages.ts';

/** Nothing that is counted at a hospital comes near; sums over all sites of a federation stay exact. */
const largestNumber = 1e11;
const longestText = 10_000;
const longestList = 10_000;

/** Formats whose texts all have the same length. */
const fixedFormats: readonly string[] = ['uuid'];

/** What in a schema has no bound, each as "path: what". */
function unbounded(schema: z.core.$ZodType, path = ''): string[] {
  const { def } = schema._zod;
  const fault = (what: string) => [`${path}: ${what}`];
  const inside = (...inner: [string, z.core.$ZodType][]) =>
    inner.flatMap(([key, one]) => unbounded(one, `${path}.${key}`));
  if (schema instanceof z.ZodObject)
    return [
      ...(schema.def.catchall?._zod.def.type === 'never' ? [] : fault('takes further keys')),
      ...inside(...Object.entries(schema.def.shape as Record<string, z.core.$ZodType>)),
    ];
  if (schema instanceof z.ZodArray)
    return [
      ...(longestOf(schema) <= longestList ? [] : fault('a list of any length')),
      ...inside(['[]', schema.element]),
    ];
  if (schema instanceof z.ZodTuple)
    return [
      ...(schema.def.rest === null ? [] : fault('a list of any length')),
      ...inside(...schema.def.items.map((item, index): [string, z.core.$ZodType] => [String(index), item])),
    ];
  if (schema instanceof z.ZodNumber) {
    const isBounded =
      (schema.minValue ?? -Infinity) >= -largestNumber && (schema.maxValue ?? Infinity) <= largestNumber;
    return isBounded ? [] : fault('a number of any size');
  }
  if (def.type === 'string') return isShort(schema) ? [] : fault('a text of any length');
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault)
    return unbounded(schema.def.innerType, path);
  if (schema instanceof z.ZodEnum || schema instanceof z.ZodLiteral || schema instanceof z.ZodBoolean)
    return [];
  return fault(`a ${def.type}, which this test does not know`);
}

/** The checks of a schema, each with its numbers; a format of its own is one of them. */
function checksOf({ _zod: { def } }: z.core.$ZodType) {
  const checks = (def.checks ?? []).map((check) => check._zod.def);
  return [...checks, def] as { maximum?: number; length?: number; format?: string; pattern?: RegExp }[];
}

const longestOf = (schema: z.core.$ZodType) =>
  Math.min(...checksOf(schema).map(({ maximum, length }) => maximum ?? length ?? Infinity));

const isShort = (schema: z.core.$ZodType) =>
  longestOf(schema) <= longestText ||
  checksOf(schema).some(
    ({ format, pattern }) =>
      (format !== undefined && fixedFormats.includes(format)) ||
      (pattern !== undefined && /^\^.*\$$/.test(pattern.source) && !/[*+]|,\}/.test(pattern.source)),
  );

const { manifest: _contract, ...otherManifests } = manifestBodies;
const { body: _body, ...envelopeFields } = envelopeSchema.shape;
const messages: Record<string, z.core.$ZodType> = {
  ...siteToCoordinator,
  ...coordinatorToSite,
  ...otherManifests,
  presence: presenceSchema,
  'blob-request': blobRequestSchema,
  envelope: z.strictObject(envelopeFields),
  'join-request': joinRequestSchema,
  ...joinAnswers,
};

/** Rules of a later version are left out of a policy, not refused with the whole hello; the envelope bounds them. */
const known: Record<string, string[]> = { hello: ['.policy: takes further keys'] };

test.each(Object.entries(messages))('everything in %s has a bound', (type, schema) => {
  expect(unbounded(schema)).toEqual(known[type] ?? []);
});

test.each<[string, z.core.$ZodType]>([
  ['a number', z.strictObject({ x: z.number() })],
  ['a whole number', z.strictObject({ x: z.int().min(0) })],
  ['a text', z.strictObject({ x: z.string().min(1) })],
  ['a pattern without end', z.strictObject({ x: z.string().regex(/^[0-9]+$/) })],
  ['a time with any number of digits', z.strictObject({ x: z.iso.datetime() })],
  ['a list', z.strictObject({ x: z.array(z.int().min(0).max(1)) })],
  ['a number deep inside', z.strictObject({ x: z.array(z.tuple([z.number().nullable()])).max(2) })],
  ['further keys', z.object({})],
  ['a table', z.strictObject({ x: z.record(z.string().max(3), z.boolean()) })],
  ['anything', z.strictObject({ x: z.unknown() })],
])('the walk finds %s', (_what, schema) => {
  expect(unbounded(schema)).toHaveLength(1);
});

const round = { runId: 'run', round: 0 };
const update = { sha256: 'a'.repeat(64), sizeBytes: 1, chunkBytes: 1024 };
const counts = {
  ...{ smallCell: 5, classes: 2, total: 20, correct: 10, top5: null },
  ...{ perClass: null, calibration: null, scores: null },
};
const evaluation = { runId: 'run', stateSha256: 'a'.repeat(64) };

describe('claims that no hospital can mean', () => {
  test.each<[string, keyof typeof siteToCoordinator, object]>([
    ['9e15 images', 'announce', { ...round, update, examples: 9e15, meanLoss: 1, steps: 1 }],
    ['a mean loss of 1e308', 'announce', { ...round, update, examples: 5, meanLoss: 1e308, steps: 1 }],
    ['a loss of 1e308', 'progress', { ...round, step: 1, steps: 1, loss: 1e308 }],
    ['9e15 steps', 'progress', { ...round, step: 1, steps: 9e15, loss: 1 }],
    ['9e15 held-out images', 'evaluation', { ...evaluation, correct: 0, total: 9e15 }],
    ['totals without released counts', 'evaluation', { ...evaluation, correct: 0, total: 100 }],
    ['totals beside the released counts', 'evaluation', { ...evaluation, correct: 10, total: 25, counts }],
  ])('%s', (_what, type, body) => {
    expect(siteToCoordinator[type].safeParse(body).success).toBe(false);
  });

  test('what hospitals do mean passes', () => {
    const announced = { ...round, update, examples: maxImages, meanLoss: boundedLoss(Infinity), steps: 1 };

    expect(siteToCoordinator.announce.safeParse(announced).success).toBe(true);
    expect(siteToCoordinator.announce.safeParse({ ...announced, meanLoss: boundedLoss(NaN) }).success).toBe(
      true,
    );
    expect(
      siteToCoordinator.evaluation.safeParse({ ...evaluation, correct: 10, total: 20, counts }).success,
    ).toBe(true);
    expect(siteToCoordinator.evaluation.safeParse({ ...evaluation, correct: 0, total: 0 }).success).toBe(
      true,
    );
  });
});
