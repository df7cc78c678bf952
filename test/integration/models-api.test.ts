/** Importing a network over the API of a real agent: what is recognised, asked for and refused, who may, and what is left. */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ModelInspection, ModelsView } from '../../core/api/models-contract.ts';
import { type MobileFaceNetOptions, randomMobileFaceNet } from '../fixtures/mobile-face-net.ts';
import { temporaryFolder } from '../fixtures/onnx-files.ts';
import { type Answer, type Client, type PeopleAgent, startPeopleAgent } from '../fixtures/people-agent.ts';

let agent: PeopleAgent;
let folder: string;
let client: Client;

beforeAll(async () => {
  agent = await startPeopleAgent();
  client = agent.owner;
  folder = await temporaryFolder();
});
afterAll(() => agent?.[Symbol.asyncDispose]());

async function network(name: string, options: Partial<MobileFaceNetOptions> = {}): Promise<string> {
  const file = join(folder, `${name}.onnx`);
  await writeFile(file, randomMobileFaceNet({ seed: 7, ...options }));
  return file;
}

const arcface = { mean: [127.5, 127.5, 127.5], deviation: [127.5, 127.5, 127.5], range: 255 };
const inspect = async (path: string, options = {}) =>
  (await client.mutate('models.inspect', { path, options })).data as ModelInspection;
const view = async () => (await client.query('models.list')).data as ModelsView;
const modelsFolder = () => join(agent.running.agent.context.status().dataFolder, 'models');
const idsOf = ({ models }: ModelsView) => models.map(({ id }) => id);

async function until<T>(look: () => Promise<T | null | false>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== null && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe('looking at a file', () => {
  test('what it does not say is asked for, all at once, and the rest is told', async () => {
    const found = await inspect(await network('Plain Net'));

    expect(found.questions).toEqual([{ about: 'pixels' }]);
    expect(found.id).toBe('plain-net');
    expect(found.model).toMatchObject({
      ...{ sha256: null, inputSize: 112, alignment: 'arcface-112', alignmentAssumed: true },
      ...{ embeddingSize: 64, normalisation: null },
    });
    expect(found.model!.adaptable.byDefault).toBeGreaterThan(0);
  });

  test('answers settle the identity, the same as an import at the command line has', async () => {
    const file = await network('answered');

    const found = await inspect(file, arcface);

    const report = await agent.running.agent.context.catalogue.inspect(file, {
      mean: [0.5, 0.5, 0.5],
      deviation: [0.5, 0.5, 0.5],
    });
    expect(found.questions).toEqual([]);
    expect(found.model?.sha256).toBe(report.sha256);
    expect(found.model?.preprocessing).toMatchObject({ source: 'given', channelSource: 'assumed' });
  });

  test('nothing is asked of a file that normalises its pixels itself', async () => {
    const found = await inspect(await network('inside', { normalises: true }));

    expect(found.questions).toEqual([]);
    expect(found.model?.preprocessing).toMatchObject({ source: 'recognised', channelOrder: 'rgb' });
    expect(found.model?.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  test.each<[string, () => Promise<string>, string, string]>([
    [
      'probabilities of classes',
      () => network('classes', { fault: 'classifier' }),
      'MODEL_FILE_INVALID',
      'features',
    ],
    ['nothing there', async () => join(folder, 'nowhere.onnx'), 'NOT_FOUND', 'folder'],
    [
      'no network',
      async () => {
        const file = join(folder, 'letter.onnx');
        await writeFile(file, 'Dear colleagues');
        return file;
      },
      'MODEL_FILE_INVALID',
      'copy',
    ],
  ])('%s: refused with what to do', async (_what, make, code, advice) => {
    const { error } = await client.mutate('models.inspect', { path: await make() });

    expect(error?.code).toBe(code);
    expect(error?.action).toContain(advice);
  });
});

describe('importing', () => {
  test('a network stands in the list with where everything is known from; the trail names it', async () => {
    const file = await network('first');
    const options = { ...arcface, channelOrder: 'rgb' };
    const { sha256 } = (await inspect(file, options)).model!;

    const answer = await client.mutate('models.import', { path: file, options });

    expect(answer).toMatchObject({ error: null, data: { id: 'first', isNew: true } });
    const row = (await view()).models.find(({ id }) => id === 'first')!;
    expect(row).toMatchObject({
      ...{ sha256, inputSize: 112, embeddingSize: 64, runs: [], needed: null, licence: 'not stated' },
      alignment: { template: 'arcface-112', source: 'assumed' },
    });
    expect(row.pixels).toMatchObject({ source: 'given', preprocessing: { channelSource: 'given' } });
    expect(row.leak).not.toBeNull();
    const trail = agent.running.agent.context.store.audit.page({});
    expect(trail[0]).toMatchObject({ action: 'model-imported', details: { name: 'first', model: sha256 } });
    expect(JSON.stringify(trail)).not.toContain(folder);
  }, 120_000);

  test('the same network again changes nothing, another one under its name is refused', async () => {
    const file = await network('first');
    const again = await client.mutate('models.import', { path: file, options: arcface });
    const other = await network('other', { seed: 8 });
    const taken = await client.mutate('models.import', { path: other, options: { ...arcface, id: 'first' } });

    expect(again.data).toEqual({ id: 'first', isNew: false });
    expect((await inspect(file, arcface)).installedAs).toBe('first');
    expect((await inspect(other, { ...arcface, id: 'first' })).idTaken).toBe(true);
    expect(taken.error?.code).toBe('CONFIG_INVALID');
    expect((await view()).failed?.code).toBe('CONFIG_INVALID');
  }, 120_000);

  test.each([
    ['probabilities of classes', { fault: 'classifier' }, 'MODEL_FILE_INVALID'],
    ['the same embedding for every face', { fault: 'constant' }, 'MODEL_UNSUITABLE'],
  ] as const)(
    '%s: nothing is left',
    async (_what, options, code) => {
      const before = await readdir(modelsFolder());
      const path = await network(`bad-${options.fault}`, options);

      const { error } = await client.mutate('models.import', { path, options: arcface });

      expect(error?.code).toBe(code);
      expect(await readdir(modelsFolder())).toEqual(before);
      expect((await view()).failed?.code).toBe(code);
    },
    120_000,
  );

  test('one at a time; cancelled, it leaves nothing and is no failure', async () => {
    const before = await readdir(modelsFolder());
    const file = await network('stopped', { seed: 9, width: 48 });
    const importing = client.mutate('models.import', { path: file, options: arcface });
    const { importing: seen } = await until(async () => {
      const now = await view();
      return now.importing?.progress != null && now;
    });
    const second = await client.mutate('models.import', { path: file, options: arcface });
    const { data } = await client.mutate('models.cancel');
    const stopped = await importing;

    expect(seen!.progress!.share).toBeGreaterThanOrEqual(0);
    expect(second.error?.code).toBe('RUN_CONFLICT');
    expect(data).toEqual({ cancelled: true });
    expect(stopped.error?.code).toBe('CANCELLED');
    expect(await readdir(modelsFolder())).toEqual(before);
    expect(await view()).toMatchObject({ importing: null, failed: null });
    expect((await client.mutate('models.cancel')).data).toEqual({ cancelled: false });
  }, 120_000);

  test('the agent answers while a network is opened and measured', async () => {
    const file = await network('meanwhile', { seed: 10, width: 64 });
    let done = false;
    const importing = client
      .mutate('models.import', { path: file, options: arcface })
      .finally(() => (done = true));
    let answers = 0;
    while (!done) {
      await client.query('status');
      answers++;
    }

    expect((await importing).error).toBeNull();
    expect(answers).toBeGreaterThan(20);
  }, 240_000);
});

describe('removing', () => {
  test('what was seen is removed, what comes with Anneal stays', async () => {
    const rows = (await view()).models;
    const builtIn = rows.find(({ format }) => format === 'built-in')!;
    const row = rows.find(({ id }) => id === 'meanwhile')!;

    const stale = await client.mutate('models.remove', { id: row.id, sha256: 'ab'.repeat(32) });
    const kept = await client.mutate('models.remove', { id: builtIn.id, sha256: builtIn.sha256 });
    const removed = await client.mutate('models.remove', { id: row.id, sha256: row.sha256 });

    expect([stale.error?.code, kept.error?.code]).toEqual(['RUN_CONFLICT', 'CONFIG_INVALID']);
    expect(idsOf(removed.data as ModelsView)).toEqual([builtIn.id, 'first']);
    expect(await readdir(modelsFolder())).not.toContain(row.id);
    expect((await readdir(modelsFolder())).filter((name) => name.startsWith('.removed'))).toEqual([]);
  });

  test('a run that is not over, or adapters trained on it, keep it', async () => {
    const { store } = agent.running.agent.context;
    const { sha256 } = (await view()).models.find(({ id }) => id === 'first')!;
    const config = { baseSha256: sha256, title: 'Rare faces' };
    store.runs.insert({ id: 'run-1', config });
    const during = await client.mutate('models.remove', { id: 'first', sha256 });
    store.runs.update('run-1', { status: 'stopped', finishedAt: new Date().toISOString() });
    const base = { runId: 'run-1', kind: 'global', rank: 4, parameters: 1, sizeBytes: 1 } as const;
    store.adapters.insert({ ...base, sha256: 'cd'.repeat(32), round: 0 });
    const after = await client.mutate('models.remove', { id: 'first', sha256 });

    expect(during.error).toMatchObject({ code: 'RUN_CONFLICT' });
    expect(during.error?.message).toContain('"Rare faces" is not over');
    expect(after.error?.message).toContain('adapters of the run "Rare faces"');
    expect((await view()).models.find(({ id }) => id === 'first')).toMatchObject({
      runs: [{ id: 'run-1', title: 'Rare faces', status: 'stopped' }],
    });
  });

  test('a damaged one is shown with what is wrong, and may be removed', async () => {
    await writeFile(join(modelsFolder(), 'first', 'anneal-model.json'), '{');
    const { models, damaged } = await view();
    const removed = await client.mutate('models.remove', { id: 'first', sha256: null });

    expect(models.map(({ id }) => id)).not.toContain('first');
    expect(damaged).toMatchObject([{ id: 'first', problem: { code: 'MODEL_FILE_INVALID' } }]);
    expect(removed.error).toBeNull();
    expect((await view()).damaged).toEqual([]);
  });
});

describe('who, and what with', () => {
  const hostile: [string, unknown][] = [
    ['models.inspect', {}],
    ['models.inspect', { path: '' }],
    ['models.inspect', { path: 'x'.repeat(5000) }],
    ['models.inspect', { path: 7 }],
    ['models.inspect', { path: '/a', options: { mean: [1, 2] } }],
    ['models.inspect', { path: '/a', options: { deviation: [0, 1, 1] } }],
    ['models.inspect', { path: '/a', options: { imageSize: 1e9 } }],
    ['models.inspect', { path: '/a', options: { alignment: 'sideways' } }],
    ['models.inspect', { path: '/a', options: { allowLeak: true } }],
    ['models.import', { path: '/a', allowLeak: true }],
    ['models.remove', { id: '../keys', sha256: null }],
    ['models.remove', { id: '.importing-1', sha256: null }],
    ['models.remove', { id: 'first', sha256: 'x' }],
    ['models.remove', { id: 'first' }],
  ];
  test.each(hostile)('%s refuses %j', async (path, input) => {
    expect((await client.mutate(path, input)).error?.code).toBe('CONFIG_INVALID');
  });

  test('whoever may only look, or only approve, changes nothing and probes no path', async () => {
    const file = await network('forbidden');
    const tried: Answer[] = [];
    for (const role of ['viewer', 'approver'] as const) {
      const person = await agent.signedIn(`only.${role}`, [role]);
      expect((await person.query('models.list')).error).toBeNull();
      for (const what of ['inspect', 'import'])
        tried.push(await person.mutate(`models.${what}`, { path: file }));
      tried.push(await person.mutate('models.cancel'));
      tried.push(await person.mutate('models.remove', { id: 'forbidden', sha256: null }));
    }

    expect(new Set(tried.map(({ error }) => error?.code))).toEqual(new Set(['ROLE_MISSING']));
  });
});
