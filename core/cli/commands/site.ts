/** `anneal site …`: take part in a federation. */
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { AgentStatus, SiteOverview } from '../../api/contract.ts';
import { noticeDays } from '../../config/consent-defaults.ts';
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import { readPort, readWholeNumber } from '../arguments.ts';
import { printJson, printLine } from '../output.ts';
import { requireRole, runInForeground, withAgent } from '../with-agent.ts';
import { describeLastBackup } from './backup.ts';
import { addSiteCorrect } from './site-correct.ts';
import { addSiteDecisions } from './site-decisions.ts';
import { addSiteImport } from './site-import.ts';
import { addSiteTime } from './site-time.ts';

/** The invitation itself, or the file that holds it. Given as an argument it would show in process lists, so `-` reads standard input. */
async function readInvitation(given: string): Promise<string> {
  if (given === '-') {
    const parts: Buffer[] = [];
    for await (const part of process.stdin as AsyncIterable<Buffer>) parts.push(part);
    return Buffer.concat(parts).toString('utf8');
  }
  try {
    return await readFile(given, 'utf8');
  } catch {
    throw new AppError('INVITATION_INVALID', 'The invitation file cannot be read.', {
      action: 'Save the invitation in a file and give its path, or "-" to paste it.',
    });
  }
}

function describeClock({ aheadMs, withinMs }: NonNullable<AgentStatus['clock']>): string {
  const seconds = (ms: number) => (ms / 1000).toFixed(1);
  const side = aheadMs < 0 ? 'behind' : 'ahead of';
  return `The clock here is ${seconds(Math.abs(aheadMs))} s ${side} the coordinator's, give or take ${seconds(withinMs)} s.`;
}

function describe(overview: SiteOverview, status: AgentStatus): string {
  const { images, subjects } = overview;
  const { name, federation, broker, problem } = status;
  return [
    overview.siteId === null
      ? 'This site has not joined a federation.'
      : `Site "${name}" of "${federation}": ${overview.activity}.`,
    ...(overview.siteId === null ? [] : [`Broker ${broker.address}: ${broker.state}.`]),
    ...(problem === null ? [] : [`${problem.message} ${problem.action}`]),
    describeLastBackup(status),
    ...status.concerns
      .filter(({ message }) => message !== problem?.message)
      .map(({ message, action }) => `${message} ${action}`),
    ...(status.clock === null ? [] : [describeClock(status.clock)]),
    `${plural(subjects.total, 'subject')}, ${subjects.withConsent} with active consent; ${plural(images.ready, 'image')} ready, ${images.setAside} set aside.`,
    ...(overview.consents.expiring === 0
      ? []
      : [
          `${plural(overview.consents.expiring, 'active consent')} end within ${noticeDays} days: see "anneal consent list --expiring ${noticeDays}".`,
        ]),
    ...overview.consents.notes,
    ...(overview.run === null
      ? []
      : [
          `Run ${overview.run.id}: ${overview.run.status}, round ${overview.run.round + 1} of ${overview.run.rounds}.`,
        ]),
    ...(overview.approval === null
      ? []
      : ['The coordinator asks for approval: see "anneal site requests", or open the screens.']),
  ].join('\n');
}

export function addSiteCommands(program: Command): void {
  const site = program.command('site').description('take part in a federation');

  site
    .command('join')
    .description('join a federation with the invitation that the coordinator sent')
    .requiredOption('--invitation <file>', 'file with the invitation, or - for standard input')
    .option('--name <name>', 'name of this site, if not the one in the invitation')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const invitation = await readInvitation(options.invitation);
      const status = await withAgent(options.data, (client) =>
        client.setup.join.mutate({ invitation, name: options.name }),
      );
      if (options.json) printJson(status);
      else
        printLine(
          `Joined "${status.federation}" as "${status.name}". Next: anneal site import, then anneal site start.`,
        );
    });

  addSiteImport(site);

  site
    .command('start')
    .description('connect and train until Ctrl-C')
    .option('--data <folder>', 'data folder')
    .option('--approve', 'approve every run that the policy of this site allows, without asking', false)
    .option('--threads <number>', 'processor threads for training', readWholeNumber)
    .option('--ui-port <number>', 'also serve the screens on this port of 127.0.0.1', readPort)
    .option('--json', 'print JSON', false)
    .action((options) =>
      runInForeground(
        {
          dataFolder: options.data,
          autoApprove: options.approve,
          threads: options.threads,
          uiPort: options.uiPort,
          json: options.json,
        },
        async (client) => {
          const status = await client.status.query();
          if (status.mode !== 'site')
            throw new AppError('NOT_JOINED', 'This installation has not joined a federation.', {
              action: 'Run "anneal site join" first.',
            });
          requireRole(status);
          if (!options.json)
            printLine(`Site "${status.name}" of "${status.federation}", broker ${status.broker.address}.`);
        },
      ),
    );

  addSiteDecisions(site);
  addSiteCorrect(site);
  addSiteTime(site);

  site
    .command('status')
    .description('show what this site has and does')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const { status, overview } = await withAgent(options.data, async (client) => ({
        status: await client.status.query(),
        overview: await client.site.overview.query(),
      }));
      if (options.json) printJson({ ...status, ...overview });
      else printLine(describe(overview, status));
    });
}
