/**
 * The process of one leak test: a plain Node process that leak-test-run.ts starts. The network may come from a stranger
 * and the test keeps a processor busy, so neither happens in the agent. It ends when its parent goes away.
 */
import type { BaseModel } from '../models/base-model.ts';
import { createCatalogue } from '../models/catalogue.ts';
import { openModelFiles } from '../models/model-formats.ts';
import { answerOneOrder, sendToParent } from '../process/one-order.ts';
import { AppError } from '../shared/errors.ts';
import { measureLeak } from './leak-test.ts';
import { type LeakReply, type LeakRequest, leakRequestSchema } from './leak-test-protocol.ts';

/** Reports of progress, at most one in this time. */
const progressIntervalMs = 100;

async function openBase(request: LeakRequest): Promise<BaseModel> {
  if (request.kind === 'files') return openModelFiles(request.folder, request.model);
  return createCatalogue(request.modelsFolder).load(request.id);
}

async function answer(message: unknown): Promise<LeakReply> {
  const request = leakRequestSchema.safeParse(message);
  if (!request.success) throw new AppError('INTERNAL', 'The order for a leak test is malformed.');
  const base = await openBase(request.data);
  let lastMs = Number.NEGATIVE_INFINITY;
  const report = await measureLeak(base, (progress) => {
    const nowMs = performance.now();
    if (nowMs - lastMs < progressIntervalMs) return;
    lastMs = nowMs;
    void sendToParent({ type: 'progress', ...progress } satisfies LeakReply);
  });
  return { type: 'done', sha256: base.sha256, report };
}

answerOneOrder(answer);
