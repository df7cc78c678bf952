/**
 * `anneal site time-zone` and `anneal site confirm-clock`: the time by which consents are judged. `anneal site confirm-restore`:
 * the state from which the site goes on.
 */
import type { Command } from 'commander';
import type { SiteTime } from '../../api/contract.ts';
import { formatMinute } from '../../shared/clock-words.ts';
import { plural } from '../../shared/text.ts';
import { printJson, printLine } from '../output.ts';
import { withAgent } from '../with-agent.ts';

const describe = ({ timeZone, now, problem }: SiteTime) =>
  [
    `Dates of consents are days in ${timeZone}. The clock shows ${formatMinute(now)}.`,
    ...(problem === null ? [] : [`${problem.message} ${problem.action}`]),
  ].join('\n');

export function addSiteTime(site: Command): void {
  site
    .command('time-zone')
    .argument('[zone]', 'another one, such as Europe/Berlin; consents that are recorded keep their instants')
    .description('show or set the time zone in which dates of consents are days')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (zone: string | undefined, options) => {
      const time = await withAgent(options.data, (client) =>
        zone === undefined
          ? client.consent.time.query()
          : client.consent.setTimeZone.mutate({ timeZone: zone }),
      );
      if (options.json) printJson(time);
      else printLine(describe(time));
    });

  site
    .command('confirm-restore')
    .description(
      'say that the consents were compared, after the data of this site was put back to an earlier state',
    )
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const { confirmed, ...overview } = await withAgent(options.data, (client) =>
        client.site.confirmRestore.mutate(),
      );
      if (options.json) return printJson({ ...overview, confirmed });
      printLine(
        confirmed === null
          ? 'The data of this site is not known to be older than it was; there is nothing to confirm.'
          : 'Confirmed: this site takes part in rounds again, with the consents as they are here now.',
      );
    });

  site
    .command('confirm-clock')
    .description('say that the clock of this machine is right, after it was wrong')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const answer = await withAgent(options.data, (client) => client.consent.confirmClock.mutate());
      if (options.json) return printJson(answer);
      const { confirmed } = answer;
      printLine(
        confirmed === null
          ? 'The clock is not behind what it has shown before; there is nothing to confirm.'
          : `The clock is confirmed; ${plural(confirmed.activeAgain, 'consent')} that ${confirmed.activeAgain === 1 ? 'was' : 'were'} over by the wrong time ${confirmed.activeAgain === 1 ? 'is' : 'are'} active.`,
      );
      printLine(describe(answer));
    });
}
