import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { initialState, reduce } from '../../core/site/round-reducer.ts';
import type { Store } from '../../core/store/store.ts';
import type { ManifestBody } from '../../core/transport/messages.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { createSiteWorld, type Fault, siteId } from '../fixtures/site-world.ts';
import { addImage, openTestStore } from '../fixtures/store.ts';

const base = shapeOnlyBase();

function manifestsOf(purpose: string): ManifestBody[] {
  const bodyOf = (
    run: 'A' | 'B',
    round: number,
    phase: ManifestBody['phase'],
    change: Partial<ManifestBody> = {},
  ): ManifestBody => {
    const config = {
      ...defaultRunConfig({ baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], purpose }),
      // What is approved for A does not cover B.
      rMax: run === 'A' ? 2 : 8,
    };
    const state = { sha256: sha256(`${purpose} ${run} ${round} ${phase}`), sizeBytes: 1, chunkBytes: 1024 };
    return manifestOf(config, base, round, state, { runId: `${purpose} ${run}`, phase, ...change });
  };
  return [
    bodyOf('A', 0, 'waiting', { state: null }),
    bodyOf('A', 0, 'train'),
    bodyOf('A', 0, 'train', { participants: ['another'] }),
    bodyOf('A', 0, 'train', { participants: ['another', siteId] }),
    bodyOf('A', 1, 'train'),
    bodyOf('A', 1, 'evaluate'),
    bodyOf('A', 1, 'finished'),
    bodyOf('B', 0, 'train'),
    bodyOf('B', 0, 'stopped'),
  ];
}

const subjects = [0, 1, 2];
const manifests = fc.oneof(fc.constantFrom(1, 3, 4, 7), fc.nat(8));
/** What may happen, and how often. Most often the work goes on, so that courses get to its end. */
const happenings = {
  step: 32,
  manifest: 2,
  refused: 1,
  withdraw: 6,
  grant: 2,
  approve: 4,
  decline: 1,
  strict: 1,
  lenient: 2,
  pause: 1,
  resume: 4,
  accepted: 1,
  rejected: 1,
  retry: 3,
  found: 8,
  missing: 1,
  restart: 2,
  again: 3,
  late: 2,
  unreachable: 1,
  failed: 1,
  full: 1,
} as const;
type Happening = keyof typeof happenings;
const happening = fc.record({
  what: fc.oneof(
    ...Object.entries(happenings).map(([what, weight]) => ({
      weight,
      arbitrary: fc.constant(what as Happening),
    })),
  ),
  which: manifests,
  who: fc.constantFrom(...subjects),
});
const fault = fc.record({ at: fc.nat(5), kind: fc.constantFrom('dies' as const, 'disk-full' as const) });
const faults: fc.Arbitrary<Fault | null> = fc.oneof(
  { weight: 5, arbitrary: fc.constant(null) },
  { weight: 2, arbitrary: fault },
);
const course = fc.array(fc.tuple(happening, faults), { minLength: 1, maxLength: 50, size: 'max' });

let worlds = 0;

/** Opening a store takes longer than a course: many share one, and have their own runs, subjects and purpose in it. */
function openWorld(store: Store) {
  worlds += 1;
  const purpose = `study-${worlds}`;
  const world = createSiteWorld(store, purpose);
  const nameOf = (who: number) => `${purpose} P${who}`;
  for (const who of subjects) {
    addImage(store, nameOf(who), nameOf(who));
    world.grant(nameOf(who));
  }
  const pool = manifestsOf(purpose);
  const happen = ({ what, which, who }: { what: Happening; which: number; who: number }): void =>
    ({
      step: world.takeStep,
      manifest: () => world.receive(pool[which]!),
      refused: () => world.refuse(pool[which]!),
      withdraw: () => world.withdraw(nameOf(who)),
      grant: () => world.grant(nameOf(who)),
      approve: world.approve,
      decline: world.decline,
      strict: () => world.setPolicy(true),
      lenient: () => world.setPolicy(false),
      pause: () => world.pause(true),
      resume: () => world.pause(false),
      accepted: () => world.answer(true),
      rejected: () => world.answer(false),
      retry: world.retry,
      found: () => world.examine(true),
      missing: () => world.examine(false),
      restart: world.restart,
      again: world.receiveAgain,
      late: world.answerLate,
      unreachable: () => world.fail('BROKER_UNREACHABLE'),
      failed: () => world.fail('TRAINING_FAILED'),
      full: () => world.fail('DISK_FULL'),
    })[what]();
  return { world, pool, happen, nameOf };
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'whatever happens in whatever order, no update outlives a withdrawal, no round is lost, and there is a way forward (%i)',
  () => {
    using opened = openTestStore(undefined, { durability: 'process' });
    fc.assert(
      fc.property(manifests, course, manifests, (first, events, last) => {
        const { world, pool, happen, nameOf } = openWorld(opened.store);
        try {
          // The usual beginning; from there on anything.
          world.surviving(() => world.receive(pool[first]!), null);
          world.surviving(() => world.examine(true), null);
          world.surviving(world.approve, null);
          for (const [event, fault] of events) world.surviving(() => happen(event), fault);

          // Then nothing goes wrong any more, and the site is asked for one thing.
          const asked = pool[last]!;
          for (const act of [
            () => world.grant(nameOf(0)),
            () => world.receive(asked),
            () => world.pause(false),
            () => world.setPolicy(false),
            () => world.examine(true),
            world.approve,
          ])
            world.surviving(act, null);
          for (let turn = 0; turn < 12; turn++)
            for (const act of [() => world.examine(true), world.retry, world.takeStep])
              world.surviving(act, null);

          const isOpen = asked.phase === 'train' || asked.phase === 'evaluate';
          expect(world.state.phase).toBe(isOpen ? 'done' : 'idle');
          const trains = asked.phase === 'train' && (asked.participants?.includes(siteId) ?? true);
          if (trains) expect(world.isSettled(asked)).toBe(true);
        } finally {
          world.end();
        }
      }),
      { numRuns: 30, interruptAfterTimeLimit: 60_000 },
    );
  },
  120_000,
);

test('answers that come too late change nothing, and a closed site does nothing', () => {
  const [, manifest] = manifestsOf('study') as [ManifestBody, ManifestBody];
  const asked = reduce(initialState(siteId, false), { type: 'manifestReceived', manifest }).state;
  const working = reduce(asked, { type: 'approved', ticket: asked.ticket }).state;
  const paused = reduce(working, { type: 'paused' }).state;

  expect(reduce(paused, { type: 'fetched', ticket: working.ticket })).toEqual({ state: paused, effects: [] });
  const closed = reduce(working, { type: 'closed' });
  expect(closed.effects).toEqual([{ type: 'stop' }]);
  expect(reduce(closed.state, { type: 'manifestReceived', manifest }).effects).toEqual([]);
});

test('a decline that could not be written is written later', () => {
  const [, manifest] = manifestsOf('study') as [ManifestBody, ManifestBody];
  const asked = reduce(initialState(siteId, false), { type: 'manifestReceived', manifest }).state;
  const refused = reduce(asked, { type: 'approvalMissing', ticket: asked.ticket });
  const { ticket } = refused.state;
  const error = { code: 'DISK_FULL', message: 'The disk is full.', action: 'Free some space.' } as const;

  const failed = reduce(refused.state, { type: 'failed', ticket, effect: 'decline', error });
  const again = reduce(failed.state, { type: 'retryDue' }).state;
  const declined = reduce(again, { type: 'approvalMissing', ticket: again.ticket });

  expect(refused.effects.map(({ type }) => type)).toEqual(['decline']);
  expect(failed.effects).toEqual([{ type: 'scheduleRetry' }]);
  expect(failed.state.problem).toEqual(error);
  expect(declined.effects.map(({ type }) => type)).toEqual(['decline']);
});

describe('what a site makes of the answer about a contract', () => {
  const [, manifest] = manifestsOf('study') as [ManifestBody, ManifestBody];
  const asked = reduce(initialState(siteId, false), { type: 'manifestReceived', manifest }).state;
  const { ticket } = asked;
  const error = { code: 'POLICY_REFUSED', message: 'The policy says no.', action: 'Ask.' } as const;
  const typesOf = ({ effects }: ReturnType<typeof reduce>) => effects.map(({ type }) => type);

  test('it asks once, for the newest manifest', () => {
    const first = reduce(initialState(siteId, false), { type: 'manifestReceived', manifest });

    expect(typesOf(first)).toEqual([
      'stop',
      'recordRun',
      'discardWithdrawn',
      'takeBackDisallowed',
      'examine',
    ]);
    expect(typesOf(reduce(first.state, { type: 'manifestReceived', manifest }))).not.toContain('examine');
  });

  test('a refusal shows its reason, takes back what was announced, and stays until somebody decides anew', () => {
    const refused = reduce(asked, { type: 'refused', ticket, error, again: false });

    expect(refused.state).toMatchObject({ phase: 'refused', activity: 'refused', problem: error });
    expect(refused.effects).toEqual([
      { type: 'takeBack', manifest },
      { type: 'decline', manifest, reason: error.message },
    ]);
    expect(typesOf(reduce(refused.state, { type: 'manifestReceived', manifest }))).not.toContain('examine');
    const again = reduce(refused.state, { type: 'decided' });
    expect(typesOf(again)).toContain('examine');
    expect(again.state.problem).toBeNull();
  });

  test('a refusal that passes, as in quiet hours, is looked at again and takes nothing back', () => {
    const refused = reduce(asked, { type: 'refused', ticket, error, again: true });

    expect(typesOf(refused)).toEqual(['decline', 'scheduleRetry']);
    const again = reduce(refused.state, { type: 'retryDue' });
    expect(typesOf(again)).toContain('examine');
    // Nobody hears the same reason twice.
    const { ticket: next } = again.state;
    expect(typesOf(reduce(again.state, { type: 'refused', ticket: next, error, again: true }))).toEqual([
      'scheduleRetry',
    ]);
  });

  test('a run that a person declined is told so to the coordinator, with the reason, and is no problem', () => {
    const declined = reduce(asked, { type: 'declinedHere', ticket, reason: 'Not in August.' });

    expect(declined.state).toMatchObject({ phase: 'refused', activity: 'declined', problem: null });
    expect(declined.effects).toEqual([
      { type: 'decline', manifest, reason: 'The site declined this run: Not in August.' },
    ]);
  });

  test('what breaks the contract while it works ends the work; it is not tried again', () => {
    const working = reduce(asked, { type: 'approved', ticket }).state;
    const breach = { code: 'CONTRACT_BROKEN', message: 'It holds more.', action: 'Ask.' } as const;

    const ended = reduce(working, { type: 'failed', ticket: working.ticket, effect: 'fetch', error: breach });

    expect(ended.state).toMatchObject({ phase: 'refused', activity: 'refused', problem: breach });
    expect(typesOf(ended)).toEqual(['stop', 'decline']);
    expect(typesOf(reduce(ended.state, { type: 'manifestReceived', manifest }))).not.toContain('examine');
  });

  test('a manifest that nobody can read is shown, and the work goes on', () => {
    const working = reduce(asked, { type: 'approved', ticket }).state;

    const after = reduce(working, { type: 'unreadable', error });

    expect(after).toEqual({ state: { ...working, problem: error }, effects: [] });
  });

  test('what a policy refused goes from the screen when the run is approved', () => {
    const shown = reduce(asked, { type: 'unreadable', error: { ...error, code: 'CONTRACT_BROKEN' } }).state;

    expect(reduce(shown, { type: 'approved', ticket }).state.problem).toBeNull();
  });
});
