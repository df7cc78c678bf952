/** `anneal demo`: everything on this machine, from invitation to report. */
import { relative } from 'node:path';
import type { Command } from 'commander';
import { scheduleShapeSchema } from '../../config/run-config.ts';
import { AppError } from '../../shared/errors.ts';
import { createLiveView } from '../demo/live-view.ts';
import { type DemoOptions, demoOptionsSchema } from '../demo/options.ts';
import { type DemoHooks, runDemo } from '../demo/run-demo.ts';
import { renderRounds, renderTotals } from '../demo/summary.ts';
import { printLine } from '../output.ts';
import { interruptedExitCode, onStopSignal } from '../stop-signals.ts';

function createHooks(options: DemoOptions, signal: AbortSignal): DemoHooks {
  const view = createLiveView(options.json ? process.stderr : process.stdout);
  const printLines = (value: unknown) => printLine(JSON.stringify(value));
  return {
    view,
    signal,
    onScreens(screens) {
      if (options.json) printLines({ type: 'screens', ...screens });
      else view.say(`Screens of the coordinator: ${screens.url}   access code: ${screens.accessCode}`);
    },
    async onResult({ report, outFolder }) {
      if (options.json) {
        printLines({ type: 'report', outFolder, report });
      } else {
        printLine(renderRounds(report));
        printLine(renderTotals(report));
        printLine(`Report, adapter and logs: ${relative(process.cwd(), outFolder) || '.'}`);
      }
      if (!options.keepOpen) return;
      if (!options.json) printLine('The screens stay open; press Ctrl-C to stop.');
      if (!signal.aborted)
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    },
  };
}

export function addDemoCommand(program: Command): void {
  program
    .command('demo')
    .description('run a coordinator and several sites on this machine and write a report')
    .option('--out <folder>', 'folder for report, adapter and logs', 'demo-output')
    .option('--rounds <number>', 'rounds', '10')
    .option('--sites <number>', 'sites', '3')
    .option('--schedule <shape>', scheduleShapeSchema.options.join(', '), 'cubic')
    .option('--seed <number>', 'seed', '1')
    .option('--images <folder>', 'your own images instead of cartoon faces; they stay on this machine')
    .option('--labels <file>', 'CSV for --images: file,subject,label and optionally split, site')
    .option('--already-cropped', 'the images are aligned face crops; skip face detection', false)
    .option('--no-ui', 'do not serve the screens')
    .option('--keep-open', 'leave everything running after the report, until Ctrl-C', false)
    .option('--json', 'print JSON lines: the address of the screens, then the report', false)
    .action(async (given) => {
      const parsed = demoOptionsSchema.safeParse(given);
      if (!parsed.success) {
        const issue = parsed.error.issues[0]!;
        throw new AppError('CONFIG_INVALID', `--${String(issue.path[0])}: ${issue.message}.`);
      }
      const abort = new AbortController();
      const stop = () => abort.abort();
      const ignore = onStopSignal(stop);
      if (parsed.data.json && parsed.data.keepOpen) process.stdin.once('end', stop).resume();
      try {
        await runDemo(parsed.data, createHooks(parsed.data, abort.signal));
      } catch (thrown) {
        if (!abort.signal.aborted) throw thrown;
        // Standard output is for JSON alone then.
        if (!parsed.data.json) printLine('Stopped; nothing is left running.');
        process.exitCode = interruptedExitCode;
      } finally {
        ignore();
      }
    });
}
