import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { exportFhirConsents, type FhirLayout } from '../../core/consent/fhir/export-consents.ts';
import { problemsOf } from '../../core/consent/fhir/validate.ts';
import { AppError } from '../../core/shared/errors.ts';
import { writeNewFile } from '../../core/store/atomic-file.ts';
import { broadConsent, concept, trainingCode } from '../fixtures/fhir-consents.ts';
import { type FhirWorld, openFhirWorld, training } from '../fixtures/fhir-world.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
function exported({ store }: FhirWorld, layout: FhirLayout = 'ndjson') {
  const { text, ...counts } = exportFhirConsents(store, layout);
  const resources: Record<string, unknown>[] =
    layout === 'ndjson'
      ? text
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line))
      : (JSON.parse(text).entry ?? []).map(({ resource }: { resource: object }) => resource);
  return { text, resources, ...counts };
}

const pseudonyms = ['p1', 'p2', 'p3', 'p4', 'p5'];
const purposes = [training, 'teaching'];
/** Status of every subject and purpose, now and on days to come. */
const states = (world: FhirWorld) =>
  pseudonyms.flatMap((pseudonym) =>
    purposes.flatMap((purpose) =>
      ['2026-06-15', '2026-12-31', '2028-06-01', '2031-03-02', '2035-01-01'].map(
        (day) => world.status(pseudonym, `${day}T10:00:00.000Z`, purpose) === 'active',
      ),
    ),
  );

describe('resources that were read', () => {
  const consents = [
    broadConsent(),
    broadConsent({
      ...{ id: 'b2', identifier: undefined, patient: { reference: 'Patient/p2' }, dateTime: '2026' },
      extension: [
        { url: 'https://x.example/e', valueDecimal: 1.5 },
        { url: 'https://x.example/f', valueString: 'ä€😀' },
      ],
      _dateTime: { extension: [{ url: 'https://x.example/g', valueBoolean: false }] },
    }),
    broadConsent({ id: 'b3', identifier: undefined, patient: { reference: 'Patient/p3' }, status: 'draft' }),
    broadConsent({
      id: 'b4',
      identifier: undefined,
      patient: { reference: 'Patient/p4' },
      provision: { type: 'deny', provision: [{ type: 'deny', code: concept(trainingCode) }] },
    }),
  ].map((consent) => JSON.parse(JSON.stringify(consent)));

  test.each(['bundle', 'ndjson'] as const)(
    'come back as they were, as %s, and change nothing when read again',
    (layout) => {
      using world = openFhirWorld();
      world.read(consents);
      const first = exported(world, layout);
      const before = states(world);

      const report = world.read(bytes(first.text), {});
      const second = exported(world, layout);

      expect(first.resources).toEqual(consents);
      expect(first).toMatchObject({ asRead: 4, consents: 4, subjects: 4 });
      expect(second.text).toBe(first.text);
      expect(report).toMatchObject({ recorded: [], withdrawn: [], problems: [] });
      expect(states(world)).toEqual(before);
    },
  );

  test('mean the same in another store', () => {
    using world = openFhirWorld();
    using other = openFhirWorld();
    world.read(consents);
    const { text } = exported(world);

    other.read(bytes(text));

    expect(states(other)).toEqual(states(world));
    expect(exported(other).text).toBe(text);
  });

  test.each([
    [
      'withdrawn by a person',
      (world: FhirWorld) => void withdrawConsent(world.store, { pseudonym: 'p1', recordedBy: 'test' }),
      'inactive',
    ],
    [
      'shortened by a person',
      (world: FhirWorld) =>
        void recordConsent(world.store, {
          pseudonym: 'p1',
          purpose: training,
          documentVersion: 'v1',
          recordedBy: 'test',
          validFrom: '2026-03-02',
          expiresAt: '2026-12-31',
        }),
      'active',
    ],
  ])('%s since: written anew, and no word of the old one', (_what, change, status) => {
    using world = openFhirWorld();
    world.read([consents[0]]);
    change(world);

    const { resources, asRead } = exported(world);

    expect(asRead).toBe(0);
    expect(resources).toMatchObject([
      { status, identifier: [{ system: 'https://anneal.example.invalid/fhir/consent' }] },
    ]);
    using other = openFhirWorld();
    other.read(bytes(exported(world).text));
    expect(states(other)).toEqual(states(world));
  });
});

test('what people recorded is written as valid FHIR, and read again means the same, in this store and in another', () => {
  const act = fc.record({
    pseudonym: fc.constantFrom(...pseudonyms.slice(0, 3)),
    purpose: fc.constantFrom(...purposes),
    isGrant: fc.boolean(),
    all: fc.boolean(),
    from: fc.integer({ min: 1, max: 300 }),
    days: fc.option(fc.integer({ min: 1, max: 2500 })),
    givenBy: fc.constantFrom('subject', 'guardian', 'representative', undefined),
  });
  const property = fc.property(fc.array(act, { minLength: 1, maxLength: 8 }), (acts) => {
    using world = openFhirWorld('2026-01-01T10:00:00.000Z');
    for (const [index, step] of acts.entries()) perform(world, step, index);
    world.clock.now = new Date('2027-01-01T00:00:00.000Z');
    const { text, resources } = exported(world);
    const before = states(world);

    for (const resource of resources) expect(problemsOf(resource)).toEqual([]);
    const report = world.read(bytes(text), {});
    expect(report.problems).toEqual([]);
    expect(states(world)).toEqual(before);
    expect(exported(world).text).toBe(text);

    using other = openFhirWorld('2027-01-01T00:00:00.000Z');
    other.read(bytes(text), {});
    // Never more; and exactly that unless a consent of the day of a withdrawal is doubtful.
    states(other).forEach((isActive, index) => {
      if (isActive) expect(before[index]).toBe(true);
    });
    if (acts.every(({ isGrant }) => isGrant)) expect(states(other)).toEqual(before);
  });
  fc.assert(property, { numRuns: 25 });
}, 180_000);

interface Act {
  pseudonym: string;
  purpose: string;
  isGrant: boolean;
  all: boolean;
  from: number;
  days: number | null;
  givenBy: 'subject' | 'guardian' | 'representative' | undefined;
}

function perform({ store, clock }: FhirWorld, act: Act, index: number): void {
  clock.now = new Date(Date.parse('2026-01-01T10:00:00.000Z') + index * 30 * 86_400_000);
  const day = (days: number) => new Date(clock.now.getTime() + days * 86_400_000).toISOString();
  const { pseudonym, purpose, givenBy } = act;
  const base = { pseudonym, recordedBy: 'test' };
  if (!act.isGrant) withdrawConsent(store, act.all ? base : { ...base, purpose });
  else {
    recordConsent(store, {
      ...{ ...base, purpose, givenBy, documentVersion: `form ${index}`, afterWithdrawal: true },
      ...{ validFrom: day(act.from - 1), expiresAt: act.days === null ? null : day(act.from + act.days) },
      verifiedOn: index % 2 === 0 ? '2026-01-02' : null,
    });
  }
}

describe('the file', () => {
  test('is for its owner alone, and replaces nothing unless told to', async () => {
    using folder = temporaryFolder();
    const file = join(folder.dir, 'consents.json');
    await writeNewFile(file, 'one', false);
    const refused = await writeNewFile(file, 'two', false).catch((error: unknown) => error);

    expect(refused).toBeInstanceOf(AppError);
    expect((refused as AppError).code).toBe('FILE_EXISTS');
    expect(readFileSync(file, 'utf8')).toBe('one');
    if (process.platform !== 'win32') expect(statSync(file).mode & 0o777).toBe(0o600);

    writeFileSync(file, 'old', { mode: 0o644 });
    await writeNewFile(file, 'three', true);
    expect(readFileSync(file, 'utf8')).toBe('three');
    if (process.platform !== 'win32') expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test('a folder that does not exist is named as the reason', async () => {
    using folder = temporaryFolder();
    await expect(writeNewFile(join(folder.dir, 'no', 'x.json'), '', false)).rejects.toMatchObject({
      code: 'FILE_UNREADABLE',
    });
  });

  test('an empty store gives an empty Bundle that can be read', () => {
    using world = openFhirWorld();
    const { text } = exported(world, 'bundle');
    expect(problemsOf(JSON.parse(text))).toEqual([]);
    expect(world.read(bytes(text), {})).toMatchObject({ consents: 0, problems: [] });
  });

  test('the Bundle is valid FHIR', () => {
    using world = openFhirWorld();
    world.read([broadConsent()]);
    withdrawConsent(world.store, { pseudonym: 'p2', recordedBy: 'test' });
    expect(problemsOf(JSON.parse(exported(world, 'bundle').text))).toEqual([]);
  });
});
