/** What the machines had to bear: processes that live, memory and disks that do not grow without bound, quiet logs. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Evidence, Violation } from './evidence.ts';

/** A trainer holds a network, its gradients and a runtime. */
const mostResidentBytes = 1.5 * 2 ** 30;
/** Beside what an installation has at its beginning, for each round that it has seen. */
const mostBytesPerRound = 400 * 2 ** 10;
const leastBytes = 40 * 2 ** 20;

export const noMishaps = ({ mishaps }: Evidence): Violation[] =>
  mishaps.map(({ member, what }) => ({ invariant: 'processes', what: `${member} ${what}` }));

/** When the faults are over everybody comes back, and nothing waits for anybody who has done what was advised. */
export const everybodyBack = ({ unsettled }: Evidence): Violation[] =>
  unsettled === null ? [] : [{ invariant: 'everybody back', what: unsettled }];

export function boundedMemory({ residentBytes }: Evidence): Violation[] {
  return [...residentBytes]
    .filter(([, bytes]) => bytes > mostResidentBytes)
    .map(([name, bytes]) => ({
      invariant: 'memory',
      what: `${name} held ${Math.round(bytes / 2 ** 20)} MiB`,
    }));
}

export function boundedDisk({ coordinator, sites }: Evidence): Violation[] {
  return [coordinator, ...sites].flatMap(({ member, dataFolder, store }) => {
    const rounds = store.runs.list().reduce((sum, { id }) => sum + store.rounds.listOfRun(id).length, 0);
    const [bytes, most] = [folderBytes(dataFolder), leastBytes + rounds * mostBytesPerRound];
    const what = `${member}: ${mib(bytes)} MiB after ${rounds} rounds, more than ${mib(most)}`;
    return bytes > most ? [{ invariant: 'disk', what }] : [];
  });
}

const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);

export function folderBytes(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce(
      (sum, entry) =>
        sum + (statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
}

const errorLevel = 50;

/** Nothing that nobody handled. Errors that were handled are counted by their message. */
export function quietLogs({ coordinator, sites }: Evidence, errors: Map<string, number>): Violation[] {
  return [coordinator, ...sites].flatMap(({ member, dataFolder }) => {
    const found: Violation[] = [];
    for (const line of logLines(dataFolder)) {
      if (/unhandled|uncaught/i.test(line))
        found.push({ invariant: 'logs', what: `${member}: ${line.slice(0, 300)}` });
      const { level, msg } = parsed(line);
      if (level < errorLevel) continue;
      const key = `${member}: ${msg}`;
      errors.set(key, (errors.get(key) ?? 0) + 1);
    }
    return found;
  });
}

function logLines(dataFolder: string): string[] {
  const folder = join(dataFolder, 'logs');
  return readdirSync(folder)
    .filter((name) => name.endsWith('.log'))
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
    .filter((line) => line !== '');
}

/** A line may have been cut by a kill. */
function parsed(line: string): { level: number; msg: string } {
  try {
    const { level = 0, msg = '' } = JSON.parse(line) as { level?: number; msg?: string };
    return { level, msg };
  } catch {
    return { level: 0, msg: '' };
  }
}
