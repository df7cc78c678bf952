/** Consents in random order, with lists, zones, clocks and restarts, against a simple model: many cases, no training. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { applyConsentRecord } from '../../core/consent/apply-record.ts';
import { freezeCohort, hasLostConsent, heldOutImages, trainingImages } from '../../core/consent/cohort.ts';
import { setTimeZone } from '../../core/consent/site-zone.ts';
import { parseLabelsCsv } from '../../core/data/labels-csv.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import {
  type ConsentAct,
  consentAct,
  csvOf,
  people,
  perform,
  purposes,
  rowsOf,
} from '../fixtures/consent-events.ts';
import { type ConsentModel, createConsentModel, type ListRow } from '../fixtures/consent-model.ts';
import { addImage, openTestStore } from '../fixtures/store.ts';

const start = '2026-10-20T09:30:00.000Z';

/** A list as core/data reads it, and what it does to the store. */
function readList(store: Store, rows: readonly ListRow[], model: ConsentModel): void {
  if (rows.length === 0) return;
  const files = rows.map((_, index) => `${index}.png`);
  for (const { subject, consent } of parseLabelsCsv(csvOf(rows, files, 'a'), 'list.csv'))
    if (consent !== null)
      applyConsentRecord(store, { ...consent, pseudonym: subject }, { recordedBy: 'import' });
  for (const row of rows) model.read(row);
}

function check(store: Store, model: ConsentModel): void {
  const at = store.clock.latest();
  for (const purpose of purposes) {
    const used = new Set(
      trainingImages(store, { runId: '', round: 0, purpose, at }).map((one) => one.pseudonym),
    );
    expect(new Set(heldOutImages(store, { purpose, at }).map((one) => one.pseudonym))).toEqual(used);
    for (const subject of people) {
      if (used.has(subject)) expect(`${subject} ${model.allows(subject, purpose)}`).toBe(`${subject} true`);
      if (model.demands(subject, purpose)) expect([...used]).toContain(subject);
    }
  }
}

function run(course: readonly ConsentAct[]): void {
  using opened = openTestStore(start, { durability: 'process' });
  const { clock, file } = opened;
  let { store } = opened;
  const model = createConsentModel(clock.now, 'UTC');
  setTimeZone(store, 'UTC', 'test');
  for (const subject of people)
    for (const split of ['train', 'test'] as const)
      addImage(store, subject, `${subject} ${split}`, { split });
  let last: ListRow[] = [];
  const frozen: number[] = [];
  try {
    for (const act of course) {
      if (act.act === 'list') last = rowsOf(act, model);
      if (act.act === 'list' || act.act === 'list-again') readList(store, last, model);
      else if (act.act === 'restart') {
        store.close();
        store = openStore(file, { now: () => clock.now, durability: 'process' });
      } else perform(store, clock, model, act);
      check(store, model);
      const { cohortId } = freezeCohort(store, { runId: 'r', round: 0, purpose: purposes[0] });
      for (const id of [...frozen, cohortId]) {
        const isAllowed = store.cohorts
          .members(id)
          .every(({ subjectId }) => model.allows(people[subjectId - 1]!, purposes[0]));
        // What was frozen earlier and is not allowed any more must not be announced.
        if (!isAllowed) expect(hasLostConsent(store, id)).toBe(true);
      }
      frozen.push(cohortId);
    }
    expect(store.audit.verify()).toMatchObject({ intact: true });
  } finally {
    store.close();
  }
}

describe('consents over any course of events', () => {
  test('are used only where a simple model allows it, and are used where it demands it', () => {
    fc.assert(fc.property(fc.array(consentAct, { minLength: 3, maxLength: 25 }), run), {
      numRuns: Number(process.env['ANNEAL_CONSENT_RUNS'] ?? 150),
    });
  }, 300_000);
});
