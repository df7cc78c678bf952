/** `anneal backup` and `anneal restore`; docs/backup.md has what they mean. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { defaultDataFolder } from '../../agent/paths.ts';
import type { AgentClient } from '../../api/client.ts';
import type { AgentStatus, BackupProgress, BackupState, WrittenBackup } from '../../api/contract.ts';
import { createEstimate, type Steps } from '../../backup/progress.ts';
import { type Restored, restoreBackup } from '../../backup/restore-backup.ts';
import { type VerifiedBackup, verifyBackup } from '../../backup/verify-backup.ts';
import { ownerName } from '../../people/names.ts';
import { readErasures, type Tombstone } from '../../rights/erasure-list.ts';
import { formatMinute } from '../../shared/clock-words.ts';
import { AppError } from '../../shared/errors.ts';
import { silentLogger } from '../../shared/logger.ts';
import { sha256Schema } from '../../shared/sha256-schema.ts';
import { plural } from '../../shared/text.ts';
import { formatBytes, formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { readPassphrase } from '../passphrase.ts';
import { createProgressLine } from '../progress-line.ts';
import { interruptedExitCode, onStopSignal } from '../stop-signals.ts';
import { withAgent } from '../with-agent.ts';

interface Common {
  data?: string;
  json: boolean;
}

interface BackupCall extends Common {
  withoutModels: boolean;
  passphraseFile?: string;
}

const passphraseFile = [
  '--passphrase-file <file>',
  'file with the passphrase in its first line, readable by its owner only (mode 0600)',
] as const;
const data = ['--data <folder>', 'data folder'] as const;
const json = ['--json', 'print JSON', false] as const;
const pollMs = 500;

const phaseWords: Record<BackupProgress['phase'], string> = {
  database: 'copying the database',
  copying: 'copying the files',
  verifying: 'checking',
};

function progressWords({ phase, doneBytes, totalBytes, secondsLeft }: BackupProgress): string {
  const share = totalBytes === 0 ? 0 : Math.floor((100 * doneBytes) / totalBytes);
  const left = secondsLeft === null ? '' : `, ${timeLeft(secondsLeft)} left`;
  return `${phaseWords[phase]}: ${share} %${left}`;
}

const timeLeft = (seconds: number) => (seconds < 90 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`);

/** Runs something that can be cancelled with Ctrl-C; it ends with 130 then. */
async function cancellable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const stopListening = onStopSignal(() => abort.abort());
  try {
    return await work(abort.signal);
  } catch (thrown) {
    if (abort.signal.aborted) process.once('exit', () => (process.exitCode = interruptedExitCode));
    throw thrown;
  } finally {
    stopListening();
  }
}

async function makeBackup(file: string, options: BackupCall): Promise<void> {
  const written = await withAgent(options.data, async (client) => {
    const passphrase = await readPassphrase(options.passphraseFile, true);
    const request = { file: resolve(file), passphrase, withModels: !options.withoutModels };
    return cancellable(async (signal) => {
      signal.addEventListener('abort', () => void client.backups.cancel.mutate().catch(() => {}));
      using _shown = showProgress(client);
      return await client.backups.make.mutate(request);
    });
  });
  if (options.json) printJson(written);
  else printLine(describeWritten(written));
}

/** Asks the agent now and then how far it is. */
function showProgress(client: AgentClient): Disposable {
  const line = createProgressLine(process.stderr);
  const timer = setInterval(async () => {
    const state = await client.backups.state.query().catch(() => null);
    if (state?.underWay) line.show(progressWords(state.underWay));
  }, pollMs);
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      line.clear();
    },
  };
}

function describeWritten({ sizeBytes, files, missing, auditHead }: WrittenBackup): string {
  return [
    `The backup is written and was read back: ${formatBytes(sizeBytes)}, ${plural(files, 'file')}.`,
    ...missingWords(missing),
    `The newest row of its audit trail is ${auditHead}.`,
    'Nobody can open it without the passphrase: keep that in another place.',
  ].join('\n');
}

const missingWords = (missing: number) =>
  missing === 0
    ? []
    : [
        `NOT in it: ${plural(missing, 'file')} that the database names and that ${missing === 1 ? 'is' : 'are'} missing or damaged in this data folder.`,
      ];

function describeState({ made, count, beforeErasure, restored }: BackupState): string {
  const newest = made[0];
  return [
    newest === undefined
      ? 'No backup was made yet: give the file to write.'
      : `${plural(count, 'backup')} made; the newest shows the data folder of ${formatMinute(newest.madeAt)}.`,
    ...(made.length === 0
      ? []
      : [
          formatTable(
            ['made', 'size', 'by'],
            made
              .slice(0, 10)
              .map(({ madeAt, sizeBytes, madeBy }) => [formatMinute(madeAt), formatBytes(sizeBytes), madeBy]),
            [1],
          ),
        ]),
    ...(beforeErasure === 0
      ? []
      : [
          `${plural(beforeErasure, 'backup')} made before somebody was erased: delete ${beforeErasure === 1 ? 'it' : 'them'} if you still have ${beforeErasure === 1 ? 'it' : 'them'}.`,
        ]),
    ...(restored === null
      ? []
      : [
          `This data folder was restored on ${formatMinute(restored.at)} from a backup of ${formatMinute(restored.madeAt)}.`,
        ]),
  ].join('\n');
}

/** For the status of a site or coordinator. */
export const describeLastBackup = ({ lastBackupAt }: Pick<AgentStatus, 'lastBackupAt'>): string =>
  lastBackupAt === null
    ? 'No backup was made yet: see "anneal backup --help".'
    : `The last backup shows the data folder of ${formatMinute(lastBackupAt)}.`;

async function showState({ data: folder, json: asJson }: Common): Promise<void> {
  const state = await withAgent(folder, (client) => client.backups.state.query());
  if (asJson) printJson(state);
  else printLine(describeState(state));
}

/** Progress of work in this process. */
function shownSteps(signal: AbortSignal): Steps & Disposable {
  const line = createProgressLine(process.stderr);
  const estimate = createEstimate();
  let shownMs = Number.NEGATIVE_INFINITY;
  return {
    signal,
    onProgress(progress) {
      const nowMs = performance.now();
      if (nowMs - shownMs < pollMs) return;
      shownMs = nowMs;
      line.show(progressWords(estimate(progress)));
    },
    [Symbol.dispose]: () => line.clear(),
  };
}

/** In the data folder where there is one: it lies where the hospital keeps such data anyway. */
async function withWorkRoot<T>(folder: string, work: (root: string) => Promise<T>): Promise<T> {
  if (existsSync(folder)) return work(folder);
  const root = await mkdtemp(join(tmpdir(), 'anneal-verify-'));
  try {
    return await work(root);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

type VerifyCall = { data?: string; json: boolean; passphraseFile?: string };

async function verify(file: string, options: VerifyCall): Promise<void> {
  const passphrase = await readPassphrase(options.passphraseFile, false);
  const verified = await withWorkRoot(options.data ?? defaultDataFolder(), (workRoot) =>
    cancellable(async (signal) => {
      using steps = shownSteps(signal);
      return await verifyBackup({ ...steps, file: resolve(file), passphrase, workRoot });
    }),
  );
  if (options.json) printJson(verified);
  else printLine(describeVerified(verified));
}

const whose = ({ about }: Pick<VerifiedBackup, 'about'>) =>
  about.mode === 'unset'
    ? 'an installation without a federation'
    : `the ${about.mode} "${about.name}" of "${about.federation}"`;

function describeVerified(verified: VerifiedBackup): string {
  const { about, sizeBytes, files, missing, auditRows, auditHead } = verified;
  return [
    `The backup is whole: ${whose(verified)}, ${formatMinute(about.madeAt)}, ${formatBytes(sizeBytes)}, ${plural(files, 'file')}${about.withModels ? '' : ', without models'}.`,
    ...missingWords(missing),
    `${plural(auditRows, 'row')} in its audit trail; the newest is ${auditHead}.`,
  ].join('\n');
}

interface RestoreCall extends Common {
  passphraseFile?: string;
  erasures: string[];
  erased: string[];
}

async function restore(file: string, options: RestoreCall): Promise<void> {
  const tombstones: Tombstone[] = options.erased.map((text) => {
    const subject = sha256Schema.safeParse(text).data;
    if (subject !== undefined) return { subject, askedAt: null };
    throw new AppError(
      'CONFIG_INVALID',
      '"--erased" takes the keyed hash of a certificate: 64 digits and letters a to f.',
      {
        action: 'Copy it from the certificate of the erasure.',
      },
    );
  });
  for (const list of options.erasures) tombstones.push(...(await readErasures(resolve(list))));
  const passphrase = await readPassphrase(options.passphraseFile, false);
  const dataFolder = options.data ?? defaultDataFolder();
  const restored = await cancellable(async (signal) => {
    using steps = shownSteps(signal);
    return await restoreBackup({
      ...steps,
      ...{ file: resolve(file), passphrase, dataFolder, erasures: tombstones },
      ...{ actor: ownerName('this computer'), logger: silentLogger },
    });
  });
  if (options.json) printJson(restored);
  else printLine(describeRestored(restored, options.erasures.length + options.erased.length > 0));
}

function describeRestored(restored: Restored, gaveErasures: boolean): string {
  const { about, files, missing, erased } = restored;
  const since = formatMinute(about.madeAt);
  return [
    `Restored: ${whose(restored)}, as of ${since}, ${plural(files, 'file')}.`,
    ...missingWords(missing),
    gaveErasures
      ? `Erased again: ${plural(erased, 'person', 'persons')}.`
      : 'No list of erasures was given: who was erased since then is here again. Erase them once more.',
    ...(about.mode === 'site'
      ? [
          `Withdrawals and consents recorded after ${since} are missing: record them again before this site trains.`,
        ]
      : []),
    'The old installation must never start again: two computers with the same keys would answer for one.',
  ].join('\n');
}

const collect = (text: string, before: string[]) => [...before, text];

export function addBackupCommands(program: Command): void {
  const backup = program
    .command('backup')
    .description(
      'make an encrypted backup of the data folder, also while Anneal runs; without a file: what is known of backups',
    )
    .argument('[file]', 'file to write; one that is there is never replaced')
    .option('--without-models', 'leave imported base models out; they can be imported again', false)
    .option(...passphraseFile)
    .option(...data)
    .option(...json)
    .action((file: string | undefined, options: BackupCall) =>
      file === undefined ? showState(options) : makeBackup(file, options),
    );

  backup
    .command('verify')
    .description('check that a backup can be restored, without restoring it')
    .argument('<file>', 'the backup')
    .option(...passphraseFile)
    .option('--data <folder>', 'data folder, in which the database lies while it is checked')
    .option(...json)
    // Options that "backup" knows, too, are its own wherever they stand.
    .action((file: string, _options: unknown, command: Command) =>
      verify(file, command.optsWithGlobals<VerifyCall>()),
    );

  program
    .command('restore')
    .description('put a backup into a new data folder')
    .argument('<file>', 'the backup')
    .option('--data <folder>', 'data folder to make; it must not be there yet, or be empty')
    .option(
      '--erasures <file>',
      'newest list of erasures ("anneal consent erasures") or evidence bundle: who stands in it is erased again; may be given several times',
      collect,
      [],
    )
    .option(
      '--erased <hash>',
      'keyed hash of a certificate of erasure; may be given several times',
      collect,
      [],
    )
    .option(...passphraseFile)
    .option(...json)
    .action(restore);
}
