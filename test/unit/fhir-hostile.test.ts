import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { consentStatus } from '../../core/consent/consent.ts';
import { maxFhirResources } from '../../core/consent/fhir/read-resources.ts';
import { AppError } from '../../core/shared/errors.ts';
import {
  broadConsent,
  bundleOf,
  bytesOf,
  type TestConsent,
  trainingMapping,
} from '../fixtures/fhir-consents.ts';
import { type FhirWorld, openFhirWorld, training } from '../fixtures/fhir-world.ts';

const text = (value: string) => new TextEncoder().encode(value);
const consentText = JSON.stringify(broadConsent());
const read = (world: FhirWorld, bytes: Uint8Array) => world.read(bytes);

describe('files that are no FHIR', () => {
  test.each([
    ['nothing', ''],
    ['a word', 'Consent'],
    ['XML', '<Consent xmlns="http://hl7.org/fhir"/>'],
    ['a cut-off download', consentText.slice(0, -20)],
    ['a list', `[${consentText}]`],
    ['a hundred thousand brackets', '['.repeat(100_000)],
    ['a hundred thousand nested objects', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
    ['a status twice', consentText.replace('"status":"active"', '"status":"inactive","status":"active"')],
    [
      'a status twice, once written in escapes',
      consentText.replace('"status":"active"', '"st\\u0061tus":"inactive","status":"active"'),
    ],
    ['a prototype', consentText.replace('{', '{"__proto__":{"status":"active"},')],
    ['a constructor', consentText.replace('{', '{"constructor":{"prototype":{"polluted":true}},')],
    ['a message', JSON.stringify(bundleOf([broadConsent()], 'message'))],
    ['a history', JSON.stringify(bundleOf([broadConsent()], 'history'))],
    ['a Bundle of a modifier', JSON.stringify({ ...bundleOf([broadConsent()]), implicitRules: 'x' })],
    ['entries in words', JSON.stringify({ ...bundleOf([]), entry: 'all' })],
    [
      'too many entries',
      `{"resourceType":"Bundle","type":"collection","entry":[${'0,'.repeat(maxFhirResources)}0]}`,
    ],
    ['a number of digits without end', `{"resourceType":"Consent","id":${'9'.repeat(100_000)}}`],
  ])('%s: refused in a sentence, or listed as a problem; nothing is recorded', (_what, content) => {
    using world = openFhirWorld();
    const outcome = attempt(() => read(world, text(content)).problems.length);

    expect(outcome === 'FHIR_INVALID' || Number(outcome) > 0).toBe(true);
    expect(world.store.consentEvents.all()).toEqual([]);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test.each([
    ['UTF-16', Buffer.from(`\uFEFF${consentText}`, 'utf16le')],
    ['Latin-1', Buffer.from(consentText.replace('sp-1', 'sp-\u00e4'), 'latin1')],
  ])('%s', (_what, bytes) => {
    using world = openFhirWorld();
    expect(attempt(() => read(world, bytes))).toBe('FHIR_INVALID');
  });

  test('a byte order mark is no harm', () => {
    using world = openFhirWorld();
    expect(read(world, text(`\uFEFF${consentText}`)).recorded).toEqual(['p1']);
  });
});

describe('layouts', () => {
  const second = broadConsent({ id: 'b', identifier: undefined, patient: { reference: 'Patient/p2' } });

  test.each(['collection', 'searchset', 'transaction', 'batch'])('a Bundle of type %s', (type) => {
    using world = openFhirWorld();
    expect(read(world, bytesOf(bundleOf([broadConsent(), second], type)))).toMatchObject({
      layout: 'bundle',
      recorded: ['p1', 'p2'],
    });
  });

  test('NDJSON, with blank lines and other line ends', () => {
    using world = openFhirWorld();
    const lines = `${consentText}\r\n\r\n${JSON.stringify(second)}\r\n`;
    expect(read(world, text(lines))).toMatchObject({ layout: 'ndjson', recorded: ['p1', 'p2'] });
  });

  test('one damaged line: it is named, and what the others take away is taken away', () => {
    using world = openFhirWorld();
    read(world, text(consentText));
    const lines = [
      JSON.stringify(second),
      consentText.replace('"active"', '"inactive"'),
      '{"resourceType":"Con',
    ];

    const report = read(world, text(lines.join('\n')));

    expect(report.problems).toMatchObject([{ place: 'line 3' }]);
    expect(report).toMatchObject({ withdrawn: ['p1'], heldBack: 1, recorded: [] });
  });

  test.each([
    ['a Bundle in a Bundle', bundleOf([bundleOf([broadConsent()])])],
    [
      'a deletion',
      {
        ...bundleOf([]),
        type: 'transaction',
        entry: [{ request: { method: 'DELETE', url: 'Consent/broad-1' } }],
      },
    ],
    [
      'an entry of a modifier',
      { ...bundleOf([]), entry: [{ resource: broadConsent(), modifierExtension: [] }] },
    ],
  ])('%s is a problem', (_what, bundle) => {
    using world = openFhirWorld();
    expect(read(world, bytesOf(bundle))).toMatchObject({ problems: [{ place: 'entry 1' }], recorded: [] });
  });

  test('a page of several says so', () => {
    using world = openFhirWorld();
    const page = {
      ...bundleOf([broadConsent()], 'searchset'),
      link: [{ relation: 'next', url: 'https://x.example/2' }],
    };
    expect(read(world, bytesOf(page)).isPartOfMore).toBe(true);
  });

  test('an empty Bundle is nothing to worry about', () => {
    using world = openFhirWorld();
    expect(read(world, bytesOf(bundleOf([])))).toMatchObject({ consents: 0, problems: [] });
  });

  test('contained resources that point at each other are not followed', () => {
    using world = openFhirWorld();
    const person = (id: string, other: string) => ({
      resourceType: 'RelatedPerson',
      id,
      patient: { reference: `#${other}` },
    });
    const consent = broadConsent({
      contained: [person('a', 'b'), person('b', 'a')],
      performer: [{ reference: '#a' }],
    });
    expect(read(world, bytesOf(consent)).recorded).toEqual(['p1']);
  });
});

test('whatever becomes of a consent on its way: an AppError or a report, and never a grant of what it did not say', () => {
  using world = openFhirWorld();
  const { store } = world;
  const names = [
    'status',
    'type',
    'period',
    'start',
    'end',
    'code',
    'coding',
    'system',
    'provision',
    'scope',
    'patient',
    'reference',
    'extension',
    '_start',
    'actor',
  ];
  const values = [
    null,
    true,
    0,
    '',
    'deny',
    'permit',
    'active',
    '2026',
    '9999-12-31',
    [],
    {},
    [[]],
    [null],
    'Patient/p1',
    '*',
  ];
  let number = 0;
  const property = fc.property(
    fc.array(
      fc.record({
        at: fc.nat(60),
        name: fc.constantFrom(...names),
        value: fc.constantFrom(...values),
        isGone: fc.boolean(),
      }),
      { minLength: 1, maxLength: 4 },
    ),
    (changes) => {
      const pseudonym = `m${++number}`;
      const subject = store.subjects.upsert({ pseudonym });
      const consent = structuredClone(
        broadConsent({
          id: pseudonym,
          identifier: undefined,
          patient: { reference: `Patient/${pseudonym}` },
        }),
      );
      const before = JSON.stringify(consent);
      for (const change of changes) mutate(consent, change);
      const outcome = attempt(() => read(world, bytesOf(consent)).problems.length);

      expect(['FHIR_INVALID', 'number']).toContain(typeof outcome === 'number' ? 'number' : outcome);
      const events = store.consentEvents.ofSubject(subject.id);
      const isActive = consentStatus(events, training, store.now()) === 'active';
      const isStillPermit =
        JSON.stringify(consent).includes(trainingMapping.code) && consent['status'] === 'active';
      if (isActive) expect(isStillPermit, before).toBe(true);
    },
  );
  fc.assert(property, { numRuns: 300 });
}, 180_000);

function attempt<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    if (error instanceof AppError) return error.code;
    throw error;
  }
}

/** Changes the property number `at` of all objects in the consent. */
function mutate(
  consent: TestConsent,
  { at, name, value, isGone }: { at: number; name: string; value: unknown; isGone: boolean },
): void {
  const objects: Record<string, unknown>[] = [];
  (function walk(node: unknown): void {
    if (typeof node !== 'object' || node === null) return;
    if (!Array.isArray(node)) objects.push(node as Record<string, unknown>);
    for (const inner of Object.values(node)) walk(inner);
  })(consent);
  const target = objects[at % objects.length]!;
  const keys = Object.keys(target);
  if (isGone && keys.length > 0) delete target[keys[at % keys.length]!];
  // A copy: one value put in twice, and changed in one of the places, would contain itself.
  else target[name] = structuredClone(value);
}
