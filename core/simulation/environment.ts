/** What a result has to say about where it was computed. */
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { runProgram } from '../process/child-process.ts';
import type { FinishedRun } from './record.ts';

const root = new URL('../../', import.meta.url);
const packageSchema = z.object({ version: z.string() });

/** @param anneal this version of Anneal */
export async function readVersions(anneal: string): Promise<FinishedRun['versions']> {
  const [onnxruntime, commit] = await Promise.all([runtimeVersion(), currentCommit()]);
  return { anneal, node: process.versions.node, onnxruntime, commit };
}

async function runtimeVersion(): Promise<string> {
  try {
    const text = await readFile(new URL('node_modules/onnxruntime-node/package.json', root), 'utf8');
    return packageSchema.parse(JSON.parse(text)).version;
  } catch {
    return 'unknown';
  }
}

/** Of the checkout that this code runs from; null for an installed Anneal. */
async function currentCommit(): Promise<string | null> {
  const { stdout } = await runProgram('git', ['rev-parse', '--verify', 'HEAD'], { cwd: fileURLToPath(root) });
  return /^[0-9a-f]{40}$/.test(stdout.trim()) ? stdout.trim() : null;
}

export function describeMachine(workers: number, threadsPerWorker: number): FinishedRun['machine'] {
  return {
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    workers,
    threadsPerWorker,
  };
}
