/** Where an agent keeps its data and listens, when nobody says otherwise. */
import { homedir, tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256 } from '../shared/hash.ts';

/** Longest path that a Unix socket may have on every supported system (macOS: 104 with the final zero). */
const maxSocketPath = 100;

/** `ANNEAL_DATA`, or the usual place of the operating system. */
export function defaultDataFolder(): string {
  const chosen = process.env['ANNEAL_DATA'];
  if (chosen !== undefined && chosen !== '') return resolve(chosen);
  if (process.platform === 'win32')
    return join(process.env['APPDATA'] ?? join(homedir(), 'AppData', 'Roaming'), 'Anneal', 'data');
  if (process.platform === 'darwin')
    return join(homedir(), 'Library', 'Application Support', 'Anneal', 'data');
  return join(process.env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'Anneal', 'data');
}

/** The agent's socket: inside the data folder (0700), or, when that path is too long, in a private folder beside it. */
export function socketPathOf(dataFolder: string): string {
  const folder = resolve(dataFolder);
  const id = sha256(folder).slice(0, 16);
  if (process.platform === 'win32') return `\\\\.\\pipe\\anneal-${id}`;
  const inside = join(folder, 'agent.sock');
  return inside.length <= maxSocketPath ? inside : join(tmpdir(), `anneal-${userInfo().uid}`, `${id}.sock`);
}

/** Folder of the built screens: `dist/renderer` of the checkout or of the package. */
export function screensFolder(): string {
  return fileURLToPath(new URL('../../dist/renderer', import.meta.url));
}
