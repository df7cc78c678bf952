/** The letter that a person decides about, from a real store and a real base model. */
import { expect, test } from 'vitest';
import { cardOf } from '../../core/api/approval-card.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { recordConsent } from '../../core/consent/consent.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { contractHash, contractOf } from '../../core/policy/contract.ts';
import { decline } from '../../core/site/decide.ts';
import { addImage, openTestStore } from '../fixtures/store.ts';

const catalogue = createCatalogue();
const at = '2026-11-01T00:00:00.000Z';

async function world() {
  const fixture = openTestStore();
  const { store } = fixture;
  const base = await catalogue.load('face-resnet-128');
  const config = defaultRunConfig({
    baseId: base.id,
    baseSha256: base.sha256,
    classes: ['a', 'b'],
    quorum: 3,
    title: 'Rare faces, second part',
  });
  const document = contractOf(config, base, { federation: 'f', coordinatorKey: 'k' });
  const sha256 = contractHash(document);
  store.runs.insert({ id: 'run', config });
  store.contracts.keep({ runId: 'run', sha256, document });
  for (let subject = 0; subject < 6; subject++) {
    const pseudonym = `P${subject}`;
    for (const name of ['x', 'y']) {
      addImage(store, pseudonym, pseudonym + name, { label: subject < 4 ? 'a' : 'b' });
    }
    if (subject === 3) continue;
    const given = {
      purpose: 'federated-training',
      documentVersion: 'v1',
      validFrom: at,
      recordedBy: 'staff',
    };
    recordConsent(store, { pseudonym, ...given });
  }
  const site = { siteName: 'North' };
  return {
    fixture,
    store,
    sha256,
    card: () => cardOf({ store, catalogue, site, federation: 'F', measureLeak: () => {} }, sha256),
  };
}

test('a built-in base model is called built in, not imported', async () => {
  const { fixture, card } = await world();
  using _store = fixture;

  expect((await card()).base).toMatchObject({ isBuiltIn: true, importedAt: null });
});

test("the counts are this site's own; a class with too few subjects does not train", async () => {
  const { fixture, card } = await world();
  using _store = fixture;

  const { images, subjects, classes } = await card();

  expect({ images, subjects }).toEqual({
    images: { used: 6, all: 12, heldOut: 0 },
    subjects: { used: 3, all: 6 },
  });
  expect(classes).toEqual([
    { label: 'a', images: 6, subjects: 3, heldOut: 0, trains: true },
    { label: 'b', images: 4, subjects: 2, heldOut: 0, trains: false },
  ]);
});

test('the letter of a run that was declined can be read again; one that never asked is not found', async () => {
  const { fixture, store, sha256, card } = await world();
  using _store = fixture;
  decline({ store, actor: 'staff' }, sha256, 'no capacity');

  expect((await card()).title).toBe('Rare faces, second part');
  const unknown = cardOf(
    { store, catalogue, site: { siteName: 'North' }, federation: 'F', measureLeak: () => {} },
    '0'.repeat(64),
  );
  await expect(unknown).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
