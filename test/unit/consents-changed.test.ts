/** After a write about consents, whatever the way in, screens are told that the lists and the trail have changed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { broadConsent, bundleOf, trainingCode } from '../fixtures/fhir-consents.ts';
import { type PeopleAgent, startPeopleAgent } from '../fixtures/people-agent.ts';
import { temporaryFolder } from '../fixtures/store.ts';

let agent: PeopleAgent;
const folder = temporaryFolder();

beforeAll(async () => {
  agent = await startPeopleAgent();
}, 60_000);

afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

/** What was said to have changed while a procedure ran, each once. */
async function changesBy(path: string, input: unknown) {
  const said = new Set<string>();
  const { onEvent } = agent.running.agent.context;
  const end = onEvent((event) => {
    if (event.type === 'changed') said.add(event.what);
  });
  const { error } = await agent.owner.mutate(path, input);
  end();
  return { said: [...said].sort(), error: error?.code ?? null };
}

test('both are said after every kind of write, after a withdrawal in a table that is refused, and after no preview', async () => {
  const file = (name: string, text: string) => {
    writeFileSync(join(folder.dir, name), text);
    return join(folder.dir, name);
  };
  const terms = { purpose: 'teaching', documentVersion: 'v1', validFrom: '2026-01-01', newSubject: true };
  const fhir = {
    file: file('fhir.json', JSON.stringify(bundleOf([broadConsent({ dateTime: '2026-01-02' })]))),
    fhir: { purposes: [{ system: null, code: trainingCode, purpose: 'federated-training' }] },
  };
  const refused = file(
    'refused.csv',
    'subject,consent,consent_purpose\np1,withdrawn,teaching\np1,nonsense,\n',
  );
  const list = file('list.csv', 'subject,consent\np1,withdrawn\n');
  const found = {
    record: await changesBy('consent.record', { pseudonym: 'p1', ...terms }),
    preview: await changesBy('consentFiles.import', { ...fhir, preview: true }),
    fhir: await changesBy('consentFiles.import', fhir),
    refused: await changesBy('site.importConsents', { file: refused }),
    table: await changesBy('site.importConsents', { file: list }),
    tablePreview: await changesBy('site.previewConsents', { file: list }),
    exported: await changesBy('consentFiles.export', { file: join(folder.dir, 'out'), layout: 'bundle' }),
    erased: await changesBy('rights.erase', { pseudonym: 'p1' }),
  };
  const done = (...said: string[]) => ({ said, error: null });

  expect(found).toEqual({
    record: done('audit', 'dataset'),
    preview: done(),
    fhir: done('audit', 'dataset'),
    refused: { said: ['audit', 'dataset'], error: 'CSV_MALFORMED' },
    table: done('audit', 'dataset'),
    tablePreview: done(),
    exported: done('audit'),
    erased: done('adapters', 'audit', 'dataset'),
  });
}, 60_000);
