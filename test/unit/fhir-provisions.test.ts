import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { consentStatus } from '../../core/consent/consent.ts';
import { importFhirConsents } from '../../core/consent/fhir/import-consents.ts';
import { setTimeZone } from '../../core/consent/site-zone.ts';
import {
  bytesOf,
  collectingCode,
  concept,
  permits,
  permitting,
  type TestConsent,
  type TestProvision,
  trainingCode,
  trainingMapping,
} from '../fixtures/fhir-consents.ts';
import { openTestStore, type TestStore } from '../fixtures/store.ts';

const training = 'federated-training';
const zones = ['Europe/Berlin', 'Pacific/Apia', 'America/Santiago', 'Asia/Kathmandu', 'UTC'];
const now = '2026-06-15T10:00:00.000Z';

/** When training is active after the import of one consent of a new subject, judged at each instant. */
function importer({ store }: TestStore) {
  let subjects = 0;
  return (consent: TestConsent, zone: string, instants: readonly number[]) => {
    const pseudonym = `p${++subjects}`;
    const subject = store.subjects.upsert({ pseudonym });
    setTimeZone(store, zone, 'test');
    const named = {
      ...consent,
      id: pseudonym,
      identifier: undefined,
      patient: { reference: `Patient/${pseudonym}` },
    };
    const report = importFhirConsents(store, bytesOf(named), {
      recordedBy: 'test',
      changes: { purposes: [trainingMapping] },
    });
    const events = store.consentEvents.ofSubject(subject.id);
    const isActive = instants.map(
      (instant) => consentStatus(events, training, new Date(instant).toISOString()) === 'active',
    );
    return { report, isActive };
  };
}

const twoDigits = (value: number) => String(value).padStart(2, '0');
const day = fc
  .tuple(
    fc.integer({ min: 2024, max: 2030 }),
    fc.integer({ min: 1, max: 12 }),
    fc.integer({ min: 1, max: 28 }),
  )
  .map(([year, month, date]) => `${year}-${twoDigits(month)}-${twoDigits(date)}`);
const time = fc
  .tuple(day, fc.integer({ min: 0, max: 23 }), fc.constantFrom('Z', '+02:00', '-03:30'))
  .map(([date, hour, offset]) => `${date}T${twoDigits(hour)}:30:00${offset}`);
const exactDate = fc.oneof(day, time);
const anyDate = fc.oneof(
  exactDate,
  day.map((text) => text.slice(0, 7)),
  day.map((text) => text.slice(0, 4)),
);

function provisions(date: fc.Arbitrary<string>, isOpen: boolean): fc.Arbitrary<TestProvision> {
  const codes: fc.Arbitrary<TestProvision['code']>[] = [
    fc.constant(concept(trainingCode)),
    fc.constant(concept(collectingCode)),
    fc.constant(concept(collectingCode, trainingCode)),
  ];
  if (isOpen) codes.push(fc.constant([{ text: 'Forschung' }]));
  const restriction: fc.Arbitrary<unknown[] | undefined> = isOpen
    ? fc.option(fc.constant([{ text: 'x' }]), { nil: undefined })
    : fc.constant(undefined);
  const { node } = fc.letrec<{ node: TestProvision }>((tie) => ({
    node: fc
      .record({
        type: fc.constantFrom('permit' as const, 'deny' as const),
        start: fc.option(date, { nil: undefined }),
        end: fc.option(date, { nil: undefined }),
        code: fc.option(fc.oneof(...codes), { nil: undefined }),
        action: restriction,
        provision: fc.oneof(
          { depthSize: 'small' },
          fc.constant<TestProvision[]>([]),
          fc.array(tie('node'), { minLength: 1, maxLength: 3 }),
        ),
      })
      .map(({ type, start, end, code, action, provision }) => ({
        type,
        ...(start || end ? { period: { ...(start ? { start } : {}), ...(end ? { end } : {}) } } : {}),
        ...(code ? { code } : {}),
        ...(action ? { action } : {}),
        ...(provision.length > 0 ? { provision } : {}),
      })),
  }));
  // Of provisions by chance alone few permit anything.
  const broad = fc.tuple(date, date, fc.array(node, { maxLength: 2 }), fc.array(node, { maxLength: 1 })).map(
    ([start, end, exceptions, others]): TestProvision => ({
      type: 'deny',
      provision: [
        { type: 'permit', period: { start, end }, code: concept(trainingCode), provision: exceptions },
        ...others,
      ],
    }),
  );
  return fc.oneof(node, broad).map(withoutEmptyLists);
}

const withoutEmptyLists = ({ provision, ...node }: TestProvision): TestProvision =>
  provision === undefined || provision.length === 0
    ? node
    : { ...node, provision: provision.map(withoutEmptyLists) };

/** The first and the last instant of a period may not be in its order: FHIR refuses that, and so does Anneal. */
const isInOrder = ({ period, provision }: TestProvision): boolean =>
  (period?.start === undefined ||
    period.end === undefined ||
    period.start.slice(0, 4) < period.end.slice(0, 4)) &&
  (provision ?? []).every(isInOrder);

const instants = fc.array(fc.integer({ min: Date.parse(now), max: Date.parse('2032-01-01T00:00:00.000Z') }), {
  minLength: 5,
  maxLength: 30,
});
/** Days around which the answer changes, in every zone. */
const edges = (consent: TestConsent) =>
  [...JSON.stringify(consent).matchAll(/\d{4}-\d{2}-\d{2}/g)]
    .flatMap(([date]) => [-14, -2, 0, 2, 12, 22, 26, 38].map((hours) => Date.parse(date) + hours * 3_600_000))
    .filter((instant) => instant >= Date.parse(now));

describe('provisions of a FHIR consent', () => {
  test('never more is active than the consent permits, however its open dates, words and restrictions are meant', () => {
    using world = openTestStore(now, { durability: 'process' });
    const imported = importer(world);
    let active = 0;
    const property = fc.property(
      provisions(anyDate, true).filter(isInOrder),
      fc.option(anyDate, { nil: undefined }),
      fc.constantFrom(...zones),
      instants,
      fc.infiniteStream(fc.nat(400)),
      (provision, dateTime, zone, chosen, luck) => {
        const consent = permitting(
          provision,
          dateTime === undefined ? { dateTime: undefined } : { dateTime },
        );
        const at = [...chosen, ...edges(consent)];
        const { isActive, report } = imported(consent, zone, at);
        const next = () => luck.next().value!;
        expect(report.problems).toEqual([]);
        for (let reading = 0; reading < 4; reading++) {
          const meant = new Map<string, string>();
          const understanding = {
            zone,
            isAboutUs: () => next() % 2 === 0,
            day(text: string) {
              if (!meant.has(text)) meant.set(text, dayWithin(text, next()));
              return meant.get(text)!;
            },
          };
          isActive.forEach((isUsed, index) => {
            if (!isUsed) return;
            active++;
            expect(permits(consent, at[index]!, understanding), new Date(at[index]!).toISOString()).toBe(
              true,
            );
          });
        }
      },
    );
    fc.assert(property, { numRuns: 200 });
    // Otherwise nothing was tried.
    expect(active).toBeGreaterThan(200);
  }, 180_000);

  test('with exact dates and codes alone, exactly what the consent permits is active', () => {
    using world = openTestStore(now, { durability: 'process' });
    const imported = importer(world);
    const property = fc.property(
      provisions(exactDate, false).filter(isInOrder),
      day,
      fc.constantFrom(...zones),
      instants,
      (provision, dateTime, zone, chosen) => {
        const consent = permitting(provision, { dateTime });
        const at = [...chosen, ...edges(consent)];
        const { isActive } = imported(consent, zone, at);
        const understanding = { zone, day: (text: string) => text, isAboutUs: () => true };
        expect(isActive).toEqual(at.map((instant) => permits(consent, instant, understanding)));
      },
    );
    fc.assert(property, { numRuns: 200 });
  }, 180_000);
});

/** Some day of a year or month; any is right. */
function dayWithin(text: string, luck: number): string {
  if (text.length >= 10) return text;
  if (text.length === 7) return `${text}-${twoDigits((luck % 28) + 1)}`;
  return `${text}-${twoDigits((luck % 12) + 1)}-${twoDigits((Math.floor(luck / 12) % 28) + 1)}`;
}
