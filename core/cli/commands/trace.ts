/** `anneal trace`: which runs and models have to do with a person. */
import type { Command } from 'commander';
import type { TraceReport } from '../../api/contract.ts';
import { formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { withAgent } from '../with-agent.ts';

function rowsOf({ runs }: TraceReport): string[][] {
  return runs.flatMap(({ runId, versions }) =>
    versions.map(({ round, sha256, uses }) => [
      runId,
      round < 0 ? 'start' : String(round + 1),
      sha256?.slice(0, 12) ?? 'not known here',
      uses.join(', '),
    ]),
  );
}

export function addTraceCommand(program: Command): void {
  program
    .command('trace')
    .description(
      'which versions of models were trained or evaluated on images of a person, and what builds upon them',
    )
    .argument('<pseudonym>', 'pseudonym of the person')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (pseudonym: string, options) => {
      const report = await withAgent(options.data, (client) => client.rights.trace.query({ pseudonym }));
      if (options.json) return printJson(report);
      if (report.runs.length === 0)
        return printLine(`No model was trained or evaluated on images of "${pseudonym}" at this site.`);
      printLine(formatTable(['run', 'after round', 'model', 'images of the person'], rowsOf(report)));
    });
}
