/**
 * The process of one leak test: a plain Node process that leak-test-run.ts starts. The network may come from a stranger
 * and the test keeps a processor busy, so neither happens in the agent. It ends when its parent goes away.
 */
import { constants, setPriority } from 'node:os';
import type { BaseModel } from '../models/base-model.ts';
import { createCatalogue } from '../models/catalogue.ts';
import { openModelFiles } from '../models/model-formats.ts';
import { watchParent } from '../process/parent-watch.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { measureLeak } from './leak-test.ts';
import { type LeakReply, type LeakRequest, leakRequestSchema } from './leak-test-protocol.ts';

/** Reports of progress, at most one in this time. */
const progressIntervalMs = 100;

async function openBase(request: LeakRequest): Promise<BaseModel> {
  if (request.kind === 'files') return openModelFiles(request.folder, request.model);
  return createCatalogue(request.modelsFolder).load(request.id);
}

async function answer(message: unknown): Promise<LeakReply> {
  try {
    const request = leakRequestSchema.safeParse(message);
    if (!request.success) throw new AppError('INTERNAL', 'The order for a leak test is malformed.');
    const base = await openBase(request.data);
    let lastMs = Number.NEGATIVE_INFINITY;
    const report = await measureLeak(base, (progress) => {
      const nowMs = performance.now();
      if (nowMs - lastMs < progressIntervalMs) return;
      lastMs = nowMs;
      void send({ type: 'progress', ...progress });
    });
    return { type: 'done', sha256: base.sha256, report };
  } catch (thrown) {
    const error = toAppError(thrown);
    if (error.code === 'INTERNAL' || error.code === 'TRAINING_FAILED') console.error(error.cause ?? error);
    return { type: 'failed', error: error.toReport() };
  }
}

function send(reply: LeakReply): Promise<void> {
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
  void answer(message)
    .then(send)
    .then(() => process.exit(0));
});
