/**
 * The process that opens, copies and measures one network for the agent, which starts it by model-work-run.ts: reading the weights of a
 * large network keeps a processor busy for seconds, and a stranger's file may keep it busy for ever. It ends when its parent
 * goes away.
 */
import { createCatalogue } from '../models/catalogue.ts';
import { adaptableOf, inspectForImport } from '../models/inspect-model.ts';
import { findInstalledModel } from '../models/installed-models.ts';
import { answerOneOrder, sendToParent } from '../process/one-order.ts';
import { AppError } from '../shared/errors.ts';
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
      void sendToParent({ type: 'progress', step, share } satisfies ModelReply);
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
  const parsed = modelOrderSchema.safeParse(message);
  if (!parsed.success) throw new AppError('INTERNAL', 'The order for the work on a model is malformed.');
  const order = parsed.data;
  if (order.type === 'import') return importModel(order);
  if (order.type === 'count') return count(order);
  return { type: 'found', finding: await inspectForImport(order.path, order.options) };
}

answerOneOrder(answer, (message) => {
  if (cancelSchema.safeParse(message).success) stopping.abort();
});
