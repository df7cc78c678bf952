/** Finds shared libraries where Linux's dynamic loader would, without loading them: a broken one could crash us. */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { outputOf } from '../../process/child-process.ts';

const toolTimeoutMs = 3_000;

/** The loader's own folders on the distributions that we know; its cache knows the rest. */
const systemFolders = ['/lib', '/usr/lib', '/lib64', '/usr/lib64', '/usr/local/lib'];

/**
 * @param name for instance `libvulkan.so.1`
 * @param environment its LD_LIBRARY_PATH is searched first
 * @returns its path, undefined when it is nowhere
 */
export async function findLibrary(
  name: string,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<string | undefined> {
  const chosen = (environment['LD_LIBRARY_PATH'] ?? '').split(':').filter((folder) => folder !== '');
  return findIn(chosen, name) ?? (await findInCache(name)) ?? findIn(await folders(), name);
}

function findIn(candidates: readonly string[], name: string): string | undefined {
  return candidates.map((folder) => path.join(folder, name)).find((file) => existsSync(file));
}

async function findInCache(name: string): Promise<string | undefined> {
  const text = await outputOf('/sbin/ldconfig', ['-p'], toolTimeoutMs);
  return text === null ? undefined : parseLibraryCache(text, name);
}

/** @param text output of `ldconfig -p` */
export function parseLibraryCache(text: string, name: string): string | undefined {
  const line = text.split('\n').find((entry) => entry.trim().startsWith(`${name} (`));
  return line === undefined ? undefined : /=> (\S.*)$/.exec(line)?.[1];
}

/** With Debian's folders per architecture, for instance /usr/lib/x86_64-linux-gnu. */
async function folders(): Promise<string[]> {
  const names = await readdir('/usr/lib').catch(() => []);
  const perArchitecture = names.filter((name) => name.endsWith('-linux-gnu'));
  return [...perArchitecture.map((name) => path.join('/usr/lib', name)), ...systemFolders];
}
