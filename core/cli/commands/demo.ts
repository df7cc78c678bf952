/** `anneal demo`: everything on this machine, from invitation to report. */
import { relative } from 'node:path';
import type { Command } from 'commander';
import { AppError } from '../../shared/errors.ts';
import { scheduleShapeSchema } from '../../strategy/strategy.ts';
import { createLiveView } from '../demo/live-view.ts';
import { demoOptionsSchema } from '../demo/options.ts';
import { runDemo } from '../demo/run-demo.ts';
import { renderRounds, renderTotals } from '../demo/summary.ts';
import { printJson, printLine } from '../output.ts';

export function addDemoCommand(program: Command): void {
  program
    .command('demo')
    .description('run a coordinator and several sites on this machine and write a report')
    .option('--out <folder>', 'folder for report, adapter and logs', 'demo-output')
    .option('--rounds <number>', 'rounds', '10')
    .option('--sites <number>', 'sites', '3')
    .option('--schedule <shape>', scheduleShapeSchema.options.join(', '), 'cubic')
    .option('--seed <number>', 'seed', '1')
    .option('--images <folder>', 'your own pictures instead of cartoon faces; they stay on this machine')
    .option('--labels <file>', 'CSV for --images: file,subject,label and optionally split, site')
    .option('--already-cropped', 'the pictures are aligned face crops: look for no face', false)
    .option('--no-ui', 'do not serve the screens')
    .option('--json', 'print the report as JSON instead of tables', false)
    .action(async (given) => {
      const parsed = demoOptionsSchema.safeParse(given);
      if (!parsed.success) {
        const issue = parsed.error.issues[0]!;
        throw new AppError('CONFIG_INVALID', `--${String(issue.path[0])}: ${issue.message}.`);
      }
      const abort = new AbortController();
      const stop = () => abort.abort();
      process.once('SIGINT', stop).once('SIGTERM', stop);
      try {
        const view = createLiveView(parsed.data.json ? process.stderr : process.stdout);
        const { report, outFolder } = await runDemo(parsed.data, view, abort.signal);
        if (parsed.data.json) return printJson(report);
        printLine(renderRounds(report));
        printLine(renderTotals(report));
        printLine(`Report, adapter and logs: ${relative(process.cwd(), outFolder) || '.'}`);
      } catch (thrown) {
        if (!abort.signal.aborted) throw thrown;
        printLine('Stopped; nothing is left running.');
        process.exitCode = 130;
      } finally {
        process.off('SIGINT', stop).off('SIGTERM', stop);
      }
    });
}
