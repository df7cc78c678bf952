/**
 * The process that opens, copies and measures one network for the agent, which starts it by model-work-run.ts: reading the weights of a
 * large network keeps a processor busy for seconds, and a stranger's file may keep it busy for ever. It ends when its parent
 * goes away.
 */
import { constants, setPriority } from 'node:os';
import { createCatalogue } from '../models/catalogue.ts';
import { adaptableOf, inspectForImport } from '../models/inspect-model.ts';
import { findInstalledModel } from '../models/installed-models.ts';
import { watchParent } from '../process/parent-watch.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { createLeakTests } from './leak-test-service.ts';
import {
  cancelSchema,
  type ModelOrder,
  type ModelReply,
  type ModelResult,
  modelOrderSchema,
} from './model-work-protocol.ts';

/** Reports of progress of one step, at most one in this time. */
const progressIntervalMs = 100;
const stopping = new AbortController();

async function importModel(order: Extract<ModelOrder, { type: 'import' }>): Promise<ModelResult> {
  const { path, options, modelsFolder, workId } = order;
  const catalogue = createCatalogue(modelsFolder);
  const before = new Set((await catalogue.list()).map(({ id }) => id));
  let last = { step: '', atMs: 0 };
  const { leak, ...manifest } = await createLeakTests({ catalogue, modelsFolder }).import(path, options, {
    signal: stopping.signal,
    workId,
    onProgress({ step, share }) {
      const atMs = performance.now();
      if (step === last.step && atMs - last.atMs < progressIntervalMs) return;
      last = { step, atMs };
      void send({ type: 'progress', step, share });
    },
  });
  return { type: 'imported', manifest: { ...manifest, leak }, isNew: !before.has(manifest.id) };
}

async function count({ modelsFolder, id }: Extract<ModelOrder, { type: 'count' }>): Promise<ModelResult> {
  const catalogue = createCatalogue(modelsFolder);
  if ((await findInstalledModel(modelsFolder, id)) === null)
    throw new AppError('MODEL_UNKNOWN', `There is no base model "${id}" here.`);
  const base = await catalogue.load(id);
  return { type: 'counted', sha256: base.sha256, adaptable: adaptableOf(base) };
}

async function answer(message: unknown): Promise<ModelReply> {
  try {
    const parsed = modelOrderSchema.safeParse(message);
    if (!parsed.success) throw new AppError('INTERNAL', 'The order for the work on a model is malformed.');
    const order = parsed.data;
    if (order.type === 'import') return await importModel(order);
    if (order.type === 'count') return await count(order);
    return { type: 'found', finding: await inspectForImport(order.path, order.options) };
  } catch (thrown) {
    const error = toAppError(thrown);
    if (error.code === 'INTERNAL' || error.code === 'TRAINING_FAILED') console.error(error.cause ?? error);
    return { type: 'failed', error: error.toReport() };
  }
}

function send(reply: ModelReply): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected) resolve();
    else process.send?.(reply, undefined, undefined, () => resolve());
  });
}

watchParent();
try {
  setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
} catch {
  // Not permitted in some containers: at normal priority then.
}
process.on('disconnect', () => process.exit(0));
process.once('message', (message) => {
  process.on('message', (second) => {
    if (cancelSchema.safeParse(second).success) stopping.abort();
  });
  void answer(message)
    .then(send)
    .then(() => process.exit(0));
});
