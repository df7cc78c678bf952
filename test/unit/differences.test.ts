import { expect, test } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { contractHash, contractOf } from '../../core/policy/contract.ts';
import { describeExcess } from '../../core/policy/differences.ts';
import { beyondEarlier, recordDecision } from '../../core/site/approval.ts';
import { askedBy } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { openTestStore } from '../fixtures/store.ts';

const base = shapeOnlyBase();
const contractWith = (change: Partial<RunConfig>) =>
  contractOf(
    defaultRunConfig({ baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], quorum: 3, ...change }),
    base,
    askedBy,
  );

test('a run that asks again says what it asks for beyond the last approval, in words', () => {
  using opened = openTestStore();
  const { store } = opened;
  const approved = contractWith({ rounds: 3, rMax: 4 });
  const asked = contractWith({ rounds: 1000, rMax: 4, classes: ['a', 'b', 'c'], privacy: null });
  expect(beyondEarlier(store, asked)).toEqual([]);
  const sha256 = contractHash(approved);
  store.runs.insert({ id: 'run', config: approved.settings });
  store.contracts.keep({ runId: 'run', sha256, document: approved });
  recordDecision(store, { runId: 'run', contractSha256: sha256, kind: 'approved', actor: 'staff' });

  const words = describeExcess(beyondEarlier(store, asked));

  expect(words).toEqual([
    { label: 'Class labels', before: 'a, b', now: 'a, b, c' },
    { label: 'Rounds', before: '3', now: '1000' },
    {
      label: 'What leaves this site',
      before: expect.stringMatching(/^\d+ tensors, \d+ bytes in all$/),
      now: expect.stringMatching(/^\d+ tensors, \d+ bytes in all$/),
    },
  ]);
  expect(beyondEarlier(store, contractWith({ rounds: 2, rMax: 4 }))).toEqual([]);
});
