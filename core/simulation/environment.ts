/** What a result has to say about where it was computed. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
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
  try {
    const cwd = fileURLToPath(root);
    const { stdout } = await promisify(execFile)('git', ['rev-parse', '--verify', 'HEAD'], { cwd });
    return /^[0-9a-f]{40}$/.test(stdout.trim()) ? stdout.trim() : null;
  } catch {
    return null;
  }
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
