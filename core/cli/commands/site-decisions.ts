/** `anneal site requests | approve | decline | policy`: what a site decides. */
import type { Command } from 'commander';
import type { AgentClient } from '../../api/client.ts';
import type { Limits, ProposalRow, SitePolicyView, SiteRequests } from '../../api/contract.ts';
import { weakenedRules } from '../../config/site-policy.ts';
import { AppError } from '../../shared/errors.ts';
import { readList, readNumber, readWholeNumber } from '../arguments.ts';
import { formatDecisions, formatLetter } from '../letter.ts';
import { printJson, printLine } from '../output.ts';
import { formatPolicy, labelOfRule, withRules } from '../policy-rules.ts';
import { sayProposed } from '../proposals.ts';
import { withAgent, withRunningAgent } from '../with-agent.ts';

interface Common {
  data?: string;
  json: boolean;
}

const leastPrefix = 8;

/** A contract by the beginning of its hash: of the request that waits, or of one that was decided. */
function contractNamed({ pending, decisions }: SiteRequests, prefix: string): string {
  const known = new Set([
    ...(pending === null ? [] : [pending.contractSha256]),
    ...decisions.map(({ contractSha256 }) => contractSha256),
  ]);
  const found = [...known].filter((sha256) => prefix.length >= leastPrefix && sha256.startsWith(prefix));
  if (found.length === 1) return found[0]!;
  throw new AppError('NOT_FOUND', `No request has a contract that begins with "${prefix}".`, {
    action: `Give at least ${leastPrefix} characters of the hash that "anneal site requests" shows.`,
  });
}

async function decideOn(
  options: Common,
  prefix: string,
  decide: (
    client: AgentClient,
    contractSha256: string,
  ) => Promise<SiteRequests & { proposed?: ProposalRow | null }>,
  said: string,
): Promise<void> {
  const requests = await withRunningAgent(options.data, async (client) =>
    decide(client, contractNamed(await client.site.requests.query(), prefix)),
  );
  if (requests.proposed != null) return sayProposed(requests.proposed, options.json);
  if (options.json) printJson(requests.decisions[0]);
  else printLine(said);
}

interface LimitOptions extends Common {
  within: boolean;
  rounds?: number;
  rMax?: number;
  quorum?: number;
  smallCell?: number;
  classes?: string[];
  batchSize?: number;
  clipNorm?: number;
  runs: number;
  until?: string;
}

function limitsOf(options: LimitOptions): Limits {
  const { rounds, rMax, quorum, smallCell, classes, batchSize, clipNorm, runs, until } = options;
  const set = { rounds, rMax, quorum, smallCell, classes, batchSize, clipNorm };
  const given = Object.fromEntries(Object.entries(set).filter(([, value]) => value !== undefined));
  const end = until === undefined ? null : new Date(until);
  if (end !== null && Number.isNaN(end.getTime()))
    throw new AppError('CONFIG_INVALID', '--until is no date.', { action: 'Write it as 2027-06-30.' });
  return { ...given, runs, until: end?.toISOString() ?? null };
}

export function addSiteDecisions(site: Command): void {
  site
    .command('requests')
    .description('show what a run asks of this site, as a letter, and earlier decisions')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options: Common) => {
      const requests = await withAgent(options.data, (client) => client.site.requests.query());
      if (options.json) return printJson(requests);
      const { pending, decisions } = requests;
      printLine(pending === null ? 'No run waits for an approval.' : formatLetter(pending));
      if (decisions.length > 0) printLine(`\n${formatDecisions(decisions)}`);
    });

  site
    .command('approve')
    .description('approve a run; with --within, also later ones of the study that ask for no more')
    .argument('<contract>', 'the hash that "anneal site requests" shows, or its beginning')
    .option('--within', 'approve within limits: other runs may ask for less, never for more', false)
    .option('--runs <number>', 'with --within: how many runs, this one included', readWholeNumber, 1)
    .option('--until <date>', 'with --within: the day on which it ends')
    .option('--rounds <number>', 'with --within: rounds of a run, at most', readWholeNumber)
    .option('--r-max <number>', 'with --within: rank, at most', readWholeNumber)
    .option('--quorum <number>', 'with --within: contributing sites, at least', readWholeNumber)
    .option('--small-cell <number>', 'with --within: smallest count, at least', readWholeNumber)
    .option('--classes <names>', 'with --within: classes, at most these', readList)
    .option('--batch-size <number>', 'with --within: images per step, at least', readWholeNumber)
    .option('--clip-norm <number>', 'with --within: gradient norm, at most', readNumber)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action((prefix: string, options: LimitOptions) => {
      const limits = options.within ? { limits: limitsOf(options) } : {};
      const said = options.within
        ? 'Approved within these limits.'
        : 'Approved. It takes part in the next round.';
      return decideOn(
        options,
        prefix,
        (client, contractSha256) => client.site.approve.mutate({ contractSha256, ...limits }),
        said,
      );
    });

  site
    .command('decline')
    .description('decline a run, or take an approval back; the coordinator sees the reason')
    .argument('<contract>', 'the hash that "anneal site requests" shows, or its beginning')
    .requiredOption('--reason <text>', 'why, in a sentence')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action((prefix: string, options: Common & { reason: string }) =>
      decideOn(
        options,
        prefix,
        (client, contractSha256) => client.site.decline.mutate({ contractSha256, reason: options.reason }),
        'Declined. The coordinator sees the reason.',
      ),
    );

  addPolicyCommands(
    site.command('policy').description('the rules of this site, which no coordinator overrides'),
  );
}

function printPolicy({ version, policy, defaults, setBy, setAt, problem }: SitePolicyView): void {
  printLine(formatPolicy(policy, defaults));
  if (version > 0) printLine(`Version ${version}, set by ${setBy} on ${setAt.slice(0, 16)}.`);
  if (problem !== null) printLine(`${problem.message} ${problem.action}`);
}

function addPolicyCommands(policy: Command): void {
  policy
    .command('show')
    .description('show every rule')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options: Common) => {
      const view = await withAgent(options.data, (client) => client.site.policy.query());
      if (options.json) printJson(view);
      else printPolicy(view);
    });

  policy
    .command('set')
    .description('change rules: anneal site policy set minSubjects=10 quietHours=07:00-19:00')
    .argument('<rule=value...>', 'lists are separated by commas; switches are on and off')
    .option('--weaken', 'confirm that a rule may protect less than before', false)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (words: string[], options: Common & { weaken: boolean }) => {
      const view = await withAgent(options.data, async (client) => {
        const before = await client.site.policy.query();
        const changed = withRules(before.policy, words);
        const weaker = weakenedRules(before.policy, changed);
        if (weaker.length > 0 && !options.weaken)
          throw new AppError(
            'CONFIG_INVALID',
            `This protects less than before: ${weaker.map(labelOfRule).join(', ')}.`,
            { action: 'If your hospital wants that, add --weaken. It is kept in the audit trail.' },
          );
        return client.site.setPolicy.mutate({ policy: changed });
      });
      if (view.proposed !== null) return sayProposed(view.proposed, options.json);
      if (options.json) printJson(view);
      else printPolicy(view);
    });
}
