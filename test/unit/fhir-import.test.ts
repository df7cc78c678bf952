import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import {
  broadConsent,
  collectingCode,
  concept,
  permitting,
  trainingCode,
} from '../fixtures/fhir-consents.ts';
import { openFhirWorld, training } from '../fixtures/fhir-world.ts';
import { eraseSubject } from '../fixtures/store.ts';

const permit = { type: 'permit' as const, code: concept(trainingCode) };
const deny = { type: 'deny' as const, code: concept(trainingCode) };
/** A consent of another subject, of another name. */
const of = (pseudonym: string, change: Record<string, unknown> = {}) =>
  broadConsent({
    id: `of-${pseudonym}`,
    identifier: undefined,
    patient: { reference: `Patient/${pseudonym}` },
    ...change,
  });
const scope = (code: string) => ({
  coding: [{ system: 'http://terminology.hl7.org/CodeSystem/consentscope', code }],
});

describe('what a consent gives', () => {
  test('a broad consent: the module that is mapped, with its own period and document', () => {
    using world = openFhirWorld();

    const report = world.read([broadConsent()]);

    expect(report).toMatchObject({ consents: 1, recorded: ['p1'], problems: [], notUsed: [] });
    expect(report.unmapped).toEqual([
      { code: `urn:oid:2.16.840.1.113883.3.1937.777.24.5.3|${collectingCode}`, consents: 1 },
    ]);
    expect(world.grants('p1')).toEqual([['2026-03-01T23:00:00.000Z', '2036-03-01T23:00:00.000Z']]);
    expect(world.store.consentEvents.all()[0]).toMatchObject({
      documentVersion: 'urn:oid:2.16.840.1.113883.3.1937.777.24.2.1791',
      reference: 'https://ths.example/gics/signed-policy|sp-1',
    });
  });

  test.each([
    ['draft', { status: 'draft' }],
    ['proposed', { status: 'proposed' }],
    ['inactive', { status: 'inactive' }],
    ['entered in error', { status: 'entered-in-error' }],
    ['for treatment', { scope: scope('treatment') }],
    ['of a scope in words', { scope: { text: 'research' } }],
    ['of a scope of another system', { scope: { coding: [{ system: 'urn:x', code: 'research' }] } }],
    ['not verified', { verification: [{ verified: true }, { verified: false }] }],
    [
      'without a mapped code',
      { provision: { type: 'deny', provision: [{ ...permit, code: concept('x') }] } },
    ],
    [
      'a code of another system',
      { provision: { ...permit, code: [{ coding: [{ system: 'urn:x', code: trainingCode }] }] } },
    ],
    ['permits all of a policy that is not mapped', { provision: { type: 'permit' } }],
    ['without provisions', { provision: undefined }],
    [
      'for one actor',
      {
        provision: {
          ...permit,
          actor: [{ role: { text: 'x' }, reference: { reference: 'Organization/1' } }],
        },
      },
    ],
    ['for one action', { provision: { ...permit, action: [{ coding: [{ code: 'collect' }] }] } }],
    ['for some data', { provision: { ...permit, dataPeriod: { start: '2020' } } }],
    ['for one class', { provision: { ...permit, class: [{ code: 'x' }] } }],
    [
      'inside a permit for something else',
      { provision: { type: 'permit', code: concept('x'), provision: [permit] } },
    ],
    ['over', { provision: { ...permit, period: { end: '2026-06-14' } } }],
    [
      'from a date that is said to be unknown',
      {
        provision: {
          ...permit,
          period: {
            _start: {
              extension: [
                { url: 'http://hl7.org/fhir/StructureDefinition/data-absent-reason', valueCode: 'unknown' },
              ],
            },
          },
        },
      },
    ],
    ['for a purpose that is not mapped', { provision: { ...permit, purpose: [{ code: 'HRESCH' }] } }],
  ])('%s: nothing is active, and the report says why', (_what, change) => {
    using world = openFhirWorld();

    const report = world.read([broadConsent(change)]);

    expect(report.problems).toEqual([]);
    expect(world.status('p1')).not.toBe('active');
    expect(report.notUsed.length + report.recorded.length).toBe(1);
  });

  test.each([
    ['a permit at the root', { provision: permit }, {}],
    [
      'a purpose that is mapped',
      { provision: { type: 'permit', purpose: [{ code: 'HRESCH' }] } },
      [{ system: null, code: 'HRESCH', purpose: training }],
    ],
    [
      'a policy that is mapped',
      { provision: { type: 'permit' } },
      [{ system: null, code: 'urn:oid:2.16.840.1.113883.3.1937.777.24.2.1791', purpose: training }],
    ],
    [
      'a category that is mapped, and no provisions',
      { provision: undefined },
      [{ system: null, code: '57016-8', purpose: training }],
    ],
    ['verified', { verification: [{ verified: true, verificationDate: '2026-03-05' }] }, {}],
    [
      'a permit inside a deny for something else that is over',
      {
        provision: {
          type: 'permit',
          code: concept(trainingCode),
          provision: [{ type: 'deny', period: { end: '2025' } }],
        },
      },
      {},
    ],
  ])('%s: active', (_what, change, purposes) => {
    using world = openFhirWorld();

    world.read([broadConsent(change)], Array.isArray(purposes) ? { purposes } : undefined);

    expect(world.status('p1')).toBe('active');
  });

  test('opting out by the rule denies what is not permitted', () => {
    using world = openFhirWorld();
    const optOut = {
      coding: [{ system: 'http://terminology.hl7.org/CodeSystem/v3-ActCode', code: 'OPTOUT' }],
    };

    world.read([broadConsent({ policyRule: optOut, provision: undefined })], {
      purposes: [{ system: null, code: '57016-8', purpose: training }],
    });

    expect(world.status('p1')).toBe('withdrawn');
  });

  test.each([
    ['a month as begin', { start: '2026-04' }, '2026-04-29T22:00:00.000Z', null],
    ['a year as begin', { start: '2027' }, '2027-12-30T23:00:00.000Z', null],
    ['a month as end', { end: '2027-02' }, '2026-03-01T23:00:00.000Z', '2027-02-01T23:00:00.000Z'],
    ['a year as end', { end: '2028' }, '2026-03-01T23:00:00.000Z', '2028-01-01T23:00:00.000Z'],
    ['a leap day', { start: '2028-02' }, '2028-02-28T23:00:00.000Z', null],
    ['a day as end', { end: '2026-12-31' }, '2026-03-01T23:00:00.000Z', '2026-12-31T23:00:00.000Z'],
    [
      'a time as end',
      { end: '2026-12-31T12:00:00+01:00' },
      '2026-03-01T23:00:00.000Z',
      '2026-12-31T11:00:00.001Z',
    ],
    ['a begin before the consent was given', { start: '2020-01-01' }, '2026-03-01T23:00:00.000Z', null],
  ])('%s of a permit: only what is certain', (_what, period, from, until) => {
    using world = openFhirWorld();

    world.read([permitting({ ...permit, period })]);

    expect(world.grants('p1')).toEqual([[from, until]]);
  });

  test('a deny is as wide as it may be meant, and cuts a permit in two', () => {
    using world = openFhirWorld();

    world.read([
      permitting({
        ...permit,
        period: { end: '2030-12-31' },
        provision: [{ ...deny, period: { start: '2027-03', end: '2028' } }],
      }),
    ]);

    expect(world.grants('p1')).toEqual([
      ['2026-03-01T23:00:00.000Z', '2027-02-28T23:00:00.000Z'],
      ['2028-12-31T23:00:00.000Z', '2030-12-31T23:00:00.000Z'],
    ]);
    expect(world.status('p1', '2028-06-01T00:00:00.000Z')).toBe('expired');
    expect(world.status('p1', '2029-06-01T00:00:00.000Z')).toBe('active');
  });

  test.each([
    ['a month as its date', { dateTime: '2026-04' }, '2026-04-29T22:00:00.000Z'],
    ['no date at all', { dateTime: undefined }, '2026-06-15T10:00:00.000Z'],
  ])('%s: it holds from when it was certainly given', (_what, change, from) => {
    using world = openFhirWorld();
    const consent = permitting(permit, change);

    world.read([consent]);
    world.clock.now = new Date('2026-07-01T00:00:00.000Z');
    const again = world.read([consent]);

    expect(world.grants('p1')).toEqual([[from, null]]);
    expect(again.unchanged).toBe(1);
  });
});

describe('whose consent it is', () => {
  const system = 'https://ths.example/psn';
  const identified = (value: string) => ({ identifier: { system, value } });

  test.each([
    ['a relative reference', { reference: 'Patient/p1' }],
    ['an absolute one', { reference: 'https://fhir.example/r4/Patient/p1' }],
    ['one to a version', { reference: 'Patient/p1/_history/3' }],
  ])('%s', (_what, patient) => {
    using world = openFhirWorld();
    world.read([broadConsent({ patient })]);
    expect(world.status('p1')).toBe('active');
  });

  test('by an identifier of the chosen system, in the reference or in the Patient of the same file', () => {
    using world = openFhirWorld();
    const patient = {
      resourceType: 'Patient',
      id: 'mrn-77',
      name: [{ family: 'Muster' }],
      identifier: [
        { system: 'urn:other', value: 'p3' },
        { system, value: 'p2' },
      ],
    };

    const report = world.read(
      [
        of('x', { patient: identified('p1') }),
        patient,
        of('y', { patient: { reference: 'Patient/mrn-77' } }),
      ],
      { identifierSystem: system, purposes: [{ system: null, code: trainingCode, purpose: training }] },
    );

    expect(report).toMatchObject({ recorded: ['p1', 'p2'], otherResources: 1 });
    // The choice is remembered.
    expect(world.read([of('z', { patient: identified('p3') })], {}).recorded).toEqual(['p3']);
  });

  test.each([
    ['no identifier of the system', { reference: 'Patient/p1' }],
    ['a contained patient', { reference: '#p1' }],
    ['something else', { reference: 'Group/p1', ...identified('p1'), type: 'Group' }],
    ['an invisible character', identified('p\u200b1')],
    ['a number that a spreadsheet has shortened', identified('1.23E+08')],
  ])('%s: a problem, and nothing is recorded', (_what, patient) => {
    using world = openFhirWorld();

    const report = world.read([broadConsent({ patient })], {
      identifierSystem: system,
      purposes: [{ system: null, code: trainingCode, purpose: training }],
    });

    expect(report.problems).toHaveLength(1);
    expect(world.store.consentEvents.all()).toEqual([]);
  });

  test('subjects that are not known are listed, never made', () => {
    using world = openFhirWorld();
    expect(world.read([of('stranger')]).unknown).toEqual(['stranger']);
    expect(world.store.subjects.byPseudonym('stranger')).toBeNull();
  });

  const parent = [{ coding: [{ system: 'http://terminology.hl7.org/CodeSystem/v3-RoleCode', code: 'MTH' }] }];
  test.each([
    ['the patient', { performer: [{ reference: 'Patient/p1' }] }, 'subject'],
    [
      'a parent inside',
      {
        contained: [
          {
            resourceType: 'RelatedPerson',
            id: 'm',
            patient: { reference: 'Patient/p1' },
            relationship: parent,
          },
        ],
        performer: [{ reference: '#m' }],
      },
      'guardian',
    ],
    ['a related person', { performer: [{ reference: 'RelatedPerson/9' }] }, 'representative'],
    ['another patient', { performer: [{ reference: 'Patient/p2' }] }, 'representative'],
    ['the clinic', { performer: [{ reference: 'Organization/1' }] }, null],
  ])('given by %s', (_what, change, givenBy) => {
    using world = openFhirWorld();
    world.read([
      broadConsent({ ...change, verification: [{ verified: true, verificationDate: '2026-03-05' }] }),
    ]);
    expect(world.store.consentEvents.all()).toMatchObject([{ givenBy, verifiedOn: '2026-03-05' }]);
  });

  test('names, texts for people and scans stay out of the data folder', () => {
    using world = openFhirWorld();
    const secrets = ['Zaphod', 'Beeblebrox', 'Trillian', 'c2lnbmF0dXJl', '+49123'];

    const report = world.read([
      broadConsent({
        text: { status: 'generated', div: '<div xmlns="http://www.w3.org/1999/xhtml">Zaphod</div>' },
        patient: { reference: 'Patient/p1', display: 'Beeblebrox' },
        contained: [
          {
            ...{
              resourceType: 'RelatedPerson',
              id: 'm',
              patient: { reference: 'Patient/p1', display: 'Zaphod' },
            },
            ...{ name: [{ family: 'Trillian' }], telecom: [{ system: 'phone', value: '+49123' }] },
          },
        ],
        performer: [{ reference: '#m', display: 'Trillian' }],
        extension: [{ url: 'https://x.example/e', valueHumanName: { family: 'Trillian' } }],
        sourceAttachment: { contentType: 'image/png', data: 'c2lnbmF0dXJl', title: 'Zaphod.png' },
      }),
    ]);

    expect(report).toMatchObject({ recorded: ['p1'], withoutNames: 1, problems: [] });
    const bytes = [world.file, `${world.file}-wal`].map((file) => readFileSync(file, 'latin1')).join('');
    expect(bytes).toContain('signed-policy');
    for (const secret of secrets) expect(bytes).not.toContain(secret);
  });
});

test('with the consents of a subject that is erased, the resources go that they were read from', () => {
  using world = openFhirWorld();
  const { store } = world;
  world.read([of('p1'), of('p2'), of('p3', { status: 'draft' })]);
  for (const name of ['p1', 'p3']) eraseSubject(store, store.subjects.byPseudonym(name)!.id);

  expect(store.consentSources.all().map(({ sourceKey }) => sourceKey)).toEqual(['Consent/of-p2']);
});

describe('the same consent again', () => {
  test.each([
    ['as it was', {}],
    ['of a newer version', { meta: { versionId: '9', lastUpdated: '2027-01-01T00:00:00Z' } }],
    ['of another document', { policy: [{ uri: 'urn:other' }] }],
    ['without a date', { dateTime: undefined }],
    ['dated in the future', { dateTime: '2030-01-01' }],
    ['of the day of the withdrawal', { dateTime: '2026-06-15' }],
    ['of the month of the withdrawal', { dateTime: '2026-06' }],
    ['under another name', { identifier: undefined, id: 'other' }],
  ])('%s: brings nothing back that was withdrawn since', (_what, change) => {
    using world = openFhirWorld();
    world.read([broadConsent()]);
    withdrawConsent(world.store, { pseudonym: 'p1', recordedBy: 'test' });
    world.clock.now = new Date('2026-09-01T00:00:00.000Z');

    const report = world.read([broadConsent(change)]);

    expect(report.stillWithdrawn).toEqual(['p1']);
    expect(world.status('p1')).toBe('withdrawn');
    expect(world.status('p1', '2031-01-01T00:00:00.000Z')).toBe('withdrawn');
  });

  test('a consent dated in the future that was withdrawn stays so when its day has come', () => {
    using world = openFhirWorld();
    const future = broadConsent({ dateTime: '2026-08-01' });
    world.read([future]);
    expect(world.status('p1')).toBe('not-yet-valid');
    withdrawConsent(world.store, { pseudonym: 'p1', recordedBy: 'test' });
    world.clock.now = new Date('2026-09-01T00:00:00.000Z');

    expect(world.read([future]).stillWithdrawn).toEqual(['p1']);
    expect(world.read([{ ...future, meta: { versionId: '2' } }]).stillWithdrawn).toEqual(['p1']);
    expect(world.status('p1')).toBe('withdrawn');
  });

  test('a consent that was given after the withdrawal is a new one', () => {
    using world = openFhirWorld();
    world.read([broadConsent()]);
    withdrawConsent(world.store, { pseudonym: 'p1', recordedBy: 'test' });
    world.clock.now = new Date('2026-09-01T00:00:00.000Z');

    const report = world.read([broadConsent({ id: 'new', identifier: undefined, dateTime: '2026-08-01' })]);

    expect(report).toMatchObject({ recorded: ['p1'], reconsented: ['p1'] });
    expect(world.status('p1')).toBe('active');
  });

  const until = (end: string) => ({ provision: { ...permit, period: { end } } });
  test.each([
    ['shorter', until('2026-12-31'), 'active', '2027-01-01T00:00:00.000Z', 'expired'],
    ['longer', until('2040-12-31'), 'active', '2040-01-01T00:00:00.000Z', 'active'],
    ['over since last week', until('2026-06-08'), 'expired', '2027-01-01T00:00:00.000Z', 'expired'],
    [
      'beginning earlier, ending earlier',
      { ...until('2027-12-31'), dateTime: '2025-01-01' },
      'active',
      '2028-06-01T00:00:00.000Z',
      'expired',
    ],
    [
      'beginning later',
      { provision: { ...permit, period: { start: '2027-01-01' } } },
      'expired',
      '2027-06-01T00:00:00.000Z',
      'active',
    ],
    ['inactive', { status: 'inactive' }, 'withdrawn', '2027-06-01T00:00:00.000Z', 'withdrawn'],
    [
      'entered in error',
      { status: 'entered-in-error' },
      'withdrawn',
      '2027-06-01T00:00:00.000Z',
      'withdrawn',
    ],
    ['a draft again', { status: 'draft' }, 'withdrawn', '2027-06-01T00:00:00.000Z', 'withdrawn'],
    ['rejected', { status: 'rejected' }, 'withdrawn', '2027-06-01T00:00:00.000Z', 'withdrawn'],
    [
      'not verified any more',
      { verification: [{ verified: false }] },
      'withdrawn',
      '2027-06-01T00:00:00.000Z',
      'withdrawn',
    ],
    [
      'without the module',
      { provision: { type: 'deny' } },
      'withdrawn',
      '2027-06-01T00:00:00.000Z',
      'withdrawn',
    ],
    [
      'with a deny inside',
      { provision: { type: 'permit', provision: [deny] } },
      'withdrawn',
      '2027-06-01T00:00:00.000Z',
      'withdrawn',
    ],
    [
      'denied until next year',
      { provision: { ...permit, provision: [{ ...deny, period: { end: '2026-12-31' } }] } },
      'expired',
      '2027-06-01T00:00:00.000Z',
      'active',
    ],
  ])('%s: the new version holds', (_what, change, now, later, then) => {
    using world = openFhirWorld();
    world.read([broadConsent()]);

    const report = world.read([broadConsent(change)]);
    const events = world.store.consentEvents.all();
    const again = world.read([broadConsent(change)]);

    expect(report.problems).toEqual([]);
    expect([world.status('p1'), world.status('p1', later)]).toEqual([now, then]);
    // And the next time nothing is news.
    expect(world.store.consentEvents.all()).toEqual(events);
    expect(again.recorded).toEqual([]);
  });

  test('an older consent does not replace a newer one', () => {
    using world = openFhirWorld();
    recordConsent(world.store, {
      ...{ pseudonym: 'p1', purpose: training, documentVersion: 'v3', recordedBy: 'test' },
      ...{ validFrom: '2026-05-01', expiresAt: '2026-12-31' },
    });

    expect(world.read([broadConsent()]).unchanged).toBe(1);
    expect(world.status('p1', '2027-06-01T00:00:00.000Z')).toBe('expired');
  });
});

describe('refusals', () => {
  test.each([
    [
      'a module that is denied',
      { provision: { type: 'deny', provision: [{ ...deny, period: { start: '2026' } }] } },
    ],
    ['everything denied', { provision: { type: 'deny' } }],
    ['a rejected consent', { status: 'rejected' }],
    ['a rejected consent about nothing in particular', { status: 'rejected', provision: undefined }],
    [
      'words that may mean us',
      { provision: { type: 'deny', provision: [{ type: 'deny', code: [{ text: 'KI' }] }] } },
    ],
  ])('%s withdraws what another source has recorded', (_what, change) => {
    using world = openFhirWorld();
    recordConsent(world.store, {
      ...{
        pseudonym: 'p1',
        purpose: training,
        documentVersion: 'v1',
        recordedBy: 'test',
        validFrom: '2026-01-01',
      },
    });

    const report = world.read([broadConsent(change)]);

    expect(report.withdrawn).toEqual(['p1']);
    expect(world.status('p1')).toBe('withdrawn');
  });

  test.each([
    [
      'a consent for something else that is rejected',
      { status: 'rejected', provision: { type: 'permit', code: concept('x') } },
    ],
    ['a consent for treatment that is rejected', { status: 'rejected', scope: scope('treatment') }],
    [
      'a deny of something else',
      {
        provision: {
          type: 'deny',
          provision: [
            { type: 'deny', code: concept('x') },
            { type: 'permit', code: concept('y') },
          ],
        },
      },
    ],
    ['an inactive consent that was not known', { status: 'inactive' }],
  ])('%s leaves it alone', (_what, change) => {
    using world = openFhirWorld();
    recordConsent(world.store, {
      ...{
        pseudonym: 'p1',
        purpose: training,
        documentVersion: 'v1',
        recordedBy: 'test',
        validFrom: '2026-01-01',
      },
    });

    world.read([broadConsent(change)]);

    expect(world.status('p1')).toBe('active');
  });

  test.each([
    ['everything denied', { provision: { type: 'deny' } }],
    ['everything denied inside', { provision: { type: 'permit', provision: [{ type: 'deny' }] } }],
    [
      'words that may mean us',
      { provision: { type: 'deny', provision: [{ type: 'deny', code: [{ text: 'KI' }] }] } },
    ],
    ['a rejected consent about nothing in particular', { status: 'rejected', provision: undefined }],
  ])('%s needs no code that the site knows', (_what, change) => {
    using world = openFhirWorld();
    recordConsent(world.store, {
      ...{
        pseudonym: 'p1',
        purpose: training,
        documentVersion: 'v1',
        recordedBy: 'test',
        validFrom: '2026-01-01',
      },
    });

    world.read([broadConsent(change)], {});

    expect(world.status('p1')).toBe('withdrawn');
  });

  test('refusal and new consent in one file, in any order: the newer holds', () => {
    const refusal = (dateTime: string) =>
      of('p1', { id: 'no', dateTime, provision: { type: 'deny', provision: [deny] } });
    for (const isTurned of [false, true]) {
      using world = openFhirWorld();
      const first = [refusal('2026-01-10'), of('p1', { dateTime: '2026-03-01' })];
      const second = [
        of('p2', { dateTime: '2026-01-10' }),
        { ...refusal('2026-03-01'), id: 'no-2', patient: { reference: 'Patient/p2' } },
      ];
      const consents = [...first, ...second];

      world.read(isTurned ? consents.reverse() : consents);

      expect([world.status('p1'), world.status('p2')]).toEqual(['active', 'withdrawn']);
    }
  });
});

describe('problems', () => {
  const broken = of('p3', { status: 'bogus' });

  test('all of them at once; withdrawals are recorded, grants wait', () => {
    using world = openFhirWorld();
    world.read([of('p1'), of('p2')]);

    const report = world.read([
      of('p1', { status: 'inactive' }),
      of('p4'),
      broken,
      of('p5', { dateTime: 'yesterday' }),
    ]);

    expect(report.problems.map(({ place }) => place)).toEqual(['entry 3', 'entry 4']);
    expect(report).toMatchObject({ withdrawn: ['p1'], recorded: [], heldBack: 1 });
    expect([world.status('p1'), world.status('p4')]).toEqual(['withdrawn', 'none']);
  });

  test('what a problem held back is recorded when the file is right', () => {
    using world = openFhirWorld();
    world.read([of('p4'), broken]);
    expect(world.read([of('p4'), of('p3')]).recorded).toEqual(['p3', 'p4']);
  });

  test.each([
    ['a modifier', { modifierExtension: [{ url: 'https://x.example', valueBoolean: true }] }],
    [
      'a modifier inside',
      { provision: { ...permit, modifierExtension: [{ url: 'https://x.example', valueBoolean: true }] } },
    ],
    ['implicit rules', { implicitRules: 'https://x.example' }],
    ['a property that R4 does not know', { purposeOfUse: 'x' }],
    ['no policy', { policy: undefined }],
    ['no scope', { scope: undefined }],
    [
      'a nested provision that neither permits nor denies',
      { provision: { type: 'deny', provision: [{ code: concept(trainingCode) }] } },
    ],
    ['a day that is not in the calendar', { dateTime: '2026-02-30' }],
    ['a period in numbers', { provision: { ...permit, period: { start: 2026 } } }],
    ['a list where one is meant', { patient: [{ reference: 'Patient/p1' }] }],
    ['a contained patient', { contained: [{ resourceType: 'Patient', id: 'x' }] }],
    ['neither id nor identifier', { id: undefined, identifier: undefined }],
    ['provisions without end', { provision: nested(20) }],
  ])('%s is refused, and nothing is recorded', (_what, change) => {
    using world = openFhirWorld();
    const report = world.read([broadConsent(change)]);
    expect(report.problems).toHaveLength(1);
    expect(world.store.consentEvents.all()).toEqual([]);
  });

  test('one name with two contents, or of two subjects, is a problem', () => {
    using world = openFhirWorld();
    expect(world.read([of('p1'), of('p1', { dateTime: '2026-01-01' })]).problems).toHaveLength(1);
    world.read([of('p1')]);
    expect(world.read([of('p2', { id: 'of-p1' })]).problems).toHaveLength(1);
    expect(world.read([of('p3'), of('p3')])).toMatchObject({ problems: [], recorded: ['p3'] });
  });
});

function nested(depth: number): object {
  return depth === 0 ? permit : { type: 'permit', provision: [nested(depth - 1)] };
}

test('a resource neither lengthens what was shortened by hand, nor is its refusal older than a consent that has yet to begin', () => {
  using world = openFhirWorld();
  const { store } = world;
  const later = '2030-01-01T00:00:00.000Z';
  const said = { pseudonym: 'p1', purpose: training, recordedBy: 'nurse' };
  world.read([broadConsent()]);
  const before = world.status('p1', later);
  recordConsent(store, { ...said, documentVersion: 'v', validFrom: '2026-03-02', expiresAt: '2026-12-31' });
  world.read([broadConsent({ id: 'copy', identifier: [{ system: 'https://copy.example', value: 'sp-1' }] })]);
  const copied = world.status('p1', later);
  withdrawConsent(store, { pseudonym: 'p1', recordedBy: 'nurse' });
  recordConsent(store, { ...said, documentVersion: 'v3', validFrom: '2026-09-01', afterWithdrawal: true });
  world.clock.now = new Date('2026-07-15T10:00:00.000Z');

  const report = world.read([
    broadConsent({
      ...{ id: 'refusal', identifier: [{ system: 'https://copy.example', value: 'refusal' }] },
      ...{ dateTime: '2026-07-10', provision: { type: 'deny', code: concept(trainingCode) } },
    }),
  ]);

  expect([before, copied]).toEqual(['active', 'expired']);
  expect(report.withdrawn).toEqual(['p1']);
  expect(world.status('p1', '2026-10-01T00:00:00.000Z')).toBe('withdrawn');
});
