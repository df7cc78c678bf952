/**
 * A child ends soon after its parent, however that ended (`kill -9` included). A closed pipe or IPC channel tells only a child
 * whose event loop turns; one that computes hears of it when its step is over, which may take long. So a thread of its own looks
 * whether the parent is still there, and kills the process when it is not.
 */
import { Worker } from 'node:worker_threads';
import { z } from 'zod';
import { jsonText } from '../shared/text.ts';

const variable = 'ANNEAL_PARENT';
const watchSchema = z.strictObject({
  pid: z.int().positive(),
  /** What the child may still do in order after its parent is gone. */
  graceMs: z.int().min(0).max(60_000),
});
export type ParentWatch = z.infer<typeof watchSchema>;

/** So often the thread looks; the parent is gone for as long at most before it is noticed. */
const lookEveryMs = 100;
/** Together with the above well within a second. */
export const orphanGraceMs = 150;

/** For the environment of a child of this process that calls {@link watchParent}. */
export const watchedByChild = (graceMs = orphanGraceMs): Record<string, string> => ({
  [variable]: JSON.stringify({ pid: process.pid, graceMs } satisfies ParentWatch),
});

/**
 * Call it first in a program that ends with its parent. Does nothing where no parent asked for it: a program that a person
 * started may outlive the shell.
 */
export function watchParent(): void {
  const said = jsonText.pipe(watchSchema).safeParse(process.env[variable]);
  // What this process starts has another parent.
  delete process.env[variable];
  if (!said.success) return;
  const watcher = new Worker(new URL('./parent-watcher.ts', import.meta.url), {
    name: 'anneal-parent',
    workerData: { ...said.data, lookEveryMs },
    // It needs next to none.
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 },
  });
  watcher.unref();
}
