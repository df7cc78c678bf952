/** `anneal coordinator …`: run a federation. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { Command } from 'commander';
import type { AgentClient } from '../../api/client.ts';
import type { CoordinatorOverview, RunDetail, SiteAnswer } from '../../api/contract.ts';
import { AppError } from '../../shared/errors.ts';
import { readList, readNumber, readPort } from '../arguments.ts';
import { createLiveView } from '../demo/live-view.ts';
import { formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { addRunOptions, readRunOptions } from '../run-options.ts';
import { describeRun } from '../run-table.ts';
import { requireRole, runInForeground, withAgent, withRunningAgent } from '../with-agent.ts';
import { describeLastBackup } from './backup.ts';
import { addRunControlCommands, describeControlled } from './coordinator-controls.ts';
import { addRestartCommand, describeStart, readVersion } from './coordinator-restart.ts';

const pollMs = 500;

function stateOf({ revoked, dismissal, online }: CoordinatorOverview['sites'][number]): string {
  if (revoked) return 'removed';
  if (dismissal !== null) return 'kept out';
  return online ? 'online' : 'offline';
}

function describe(overview: CoordinatorOverview): string {
  const lines = [
    `Federation "${overview.federation}", broker ${overview.brokerAddress}.`,
    formatTable(
      ['site', 'state', 'joined', 'last seen', 'clock'],
      overview.sites.map((site) => [
        ...[site.name, stateOf(site), site.joinedAt, site.lastSeenAt ?? '–'],
        site.clock === null ? '–' : `${(site.clock.aheadMs / 1000).toFixed(1)} s`,
      ]),
    ),
    ...overview.sites.flatMap(({ name, dismissal }) =>
      dismissal === null ? [] : `${name}: ${dismissal.reason} It can come back at ${dismissal.until}.`,
    ),
  ];
  for (const { name, concerns } of overview.sites)
    lines.push(...concerns.map((concern) => `${name}: ${concern}`));
  if (overview.current !== null) lines.push(describeRun(overview.current));
  const others = overview.runs.filter(({ id }) => id !== overview.current?.id);
  lines.push(
    ...others.flatMap((run) =>
      run.unreadable === null && run.pause === null ? [] : describeControlled(run),
    ),
  );
  return lines.join('\n');
}

const describeAnswers = (sites: readonly SiteAnswer[]): string =>
  formatTable(
    ['site', 'its policy'],
    sites.map(({ siteName, policy, refusals }) => [
      siteName,
      refusals.length > 0 ? refusals.join('\n') : policy === null ? 'not known yet' : 'allows this run',
    ]),
  );

async function watchRun(client: AgentClient, runId: string): Promise<RunDetail> {
  const view = createLiveView(process.stdout);
  for (;;) {
    const run = await client.coordinator.run.query({ runId });
    view.show(run.strategy, run);
    if (run.status === 'finished' || run.status === 'failed' || run.status === 'stopped') {
      view.end();
      return run;
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

/** The file is made first, so that no invitation is lost because its file cannot be written. */
async function writeInvitation<T extends { invitation: string }>(
  path: string,
  invite: () => Promise<T>,
): Promise<T> {
  let file: FileHandle;
  try {
    file = await open(path, 'wx', 0o600);
  } catch (thrown) {
    const isThere = (thrown as { code?: unknown }).code === 'EEXIST';
    throw new AppError(
      'CONFIG_INVALID',
      isThere ? 'The invitation file already exists.' : 'The invitation file cannot be created.',
      { action: 'Name another file with --out.', cause: thrown },
    );
  }
  try {
    const made = await invite();
    await file.writeFile(`${made.invitation}\n`);
    await file.close();
    return made;
  } catch (thrown) {
    await file.close();
    await rm(path, { force: true });
    throw thrown;
  }
}

export function addCoordinatorCommands(program: Command): void {
  const coordinator = program.command('coordinator').description('run a federation');

  coordinator
    .command('start')
    .description('run the coordinator and its broker until Ctrl-C; name the federation on the first start')
    .option('--federation <name>', 'name of the federation (first start only)')
    .option('--port <number>', 'port of the broker (first start only)', readPort, 8883)
    .option(
      '--host <names>',
      'names and addresses at which the sites reach this machine (first start only)',
      readList,
    )
    .option('--ui-port <number>', 'also serve the screens on this port of 127.0.0.1', readPort)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action((options) =>
      runInForeground(
        { dataFolder: options.data, uiPort: options.uiPort, json: options.json },
        async (client) => {
          let status = await client.status.query();
          if (status.mode === 'unset') {
            if (options.federation === undefined)
              throw new AppError('CONFIG_INVALID', 'A new federation needs a name.', {
                action: 'Add --federation NAME.',
              });
            status = await client.setup.coordinator.mutate({
              federation: options.federation,
              port: options.port,
              hosts: options.host,
            });
          }
          if (status.mode !== 'coordinator')
            throw new AppError('ALREADY_JOINED', 'This data folder belongs to a site.', {
              action: 'Choose another folder with --data.',
            });
          requireRole(status);
          if (!options.json) printLine(`Federation "${status.federation}", broker ${status.broker.address}.`);
        },
      ),
    );

  coordinator
    .command('invite')
    .description('create an invitation for a site; it contains a one-time secret')
    .requiredOption('--site <name>', 'name of the site')
    .option('--hours <number>', 'how many hours it is valid', readNumber, 72)
    .option('--out <file>', 'write it to a file that only you can read, instead of the terminal')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const invite = () =>
        withRunningAgent(options.data, (client) =>
          client.coordinator.invite.mutate({ siteName: options.site, validHours: options.hours }),
        );
      if (options.out !== undefined) {
        const made = await writeInvitation(options.out, invite);
        return options.json
          ? printJson({ file: options.out, expiresAt: made.expiresAt })
          : printLine(`Written to ${options.out}; valid until ${made.expiresAt}.`);
      }
      const made = await invite();
      return options.json
        ? printJson(made)
        : printLine(
            `${made.invitation}\n\nValid until ${made.expiresAt}. Send it over a channel that only the site can read.`,
          );
    });

  const run = coordinator.command('run').description('start a run and show its rounds');
  addRunOptions(run)
    .option('--check', "show what the sites' policies say to these settings, and start nothing", false)
    .option(
      '--from <run:round>',
      'begin with the result of this round of an earlier run, instead of a fresh adapter',
      readVersion,
    )
    .option('--no-watch', 'return at once')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      '\ndocs/coordinator.md lists the defaults and further settings for --config, and says when to change them.',
    )
    .action((options) =>
      withRunningAgent(options.data, async (client) => {
        const settings = await readRunOptions(options);
        if (settings.classes === undefined)
          throw new AppError('CONFIG_INVALID', 'A run needs the names of its classes.', {
            action: 'Name them with --classes, or as "classes" in the --config file.',
          });
        if (options.check) {
          const { sites } = await client.coordinator.plan.query(settings);
          return options.json ? printJson(sites) : printLine(describeAnswers(sites));
        }
        const summary = await client.coordinator.startRun.mutate({ ...settings, from: options.from });
        if (!options.watch) return options.json ? printJson(summary) : printLine(describeStart(summary));
        const run = await watchRun(client, summary.id);
        if (options.json) printJson(run);
        else printLine(describeRun(run));
        if (run.failure !== null) throw AppError.fromReport(run.failure);
      }),
    );

  addRestartCommand(coordinator);
  addRunControlCommands(coordinator);

  coordinator
    .command('status')
    .description('show sites, runs and rounds')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const { overview, status } = await withAgent(options.data, async (client) => ({
        overview: await client.coordinator.overview.query(),
        status: await client.status.query(),
      }));
      const { concerns, lastBackupAt } = status;
      const notes = concerns.map(({ message, action }) => `${message} ${action}`);
      if (options.json) printJson({ ...overview, concerns, lastBackupAt });
      else printLine([...notes, describe(overview), describeLastBackup(status)].join('\n'));
    });
}
