/**
 * The paper's table: every strategy on two data sets, tuned alike; see docs/results.md. A measurement, not a test: it
 * ends with 0 when a claim does not hold.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createSimulationProgress } from '../../../core/cli/simulate/progress.ts';
import { toAppError } from '../../../core/shared/errors.ts';
import { readPublishedPart, writeDocuments } from './document.ts';
import { requireFiles } from './experiments.ts';
import { readOptions, usage } from './options.ts';
import { type Part, readPart } from './part.ts';
import { type DataSet, fullPlan, standardPlan } from './plan-of-runs.ts';
import { runDataSet } from './run-data-set.ts';

const repository = fileURLToPath(new URL('../../../', import.meta.url));
const sharedFolder = join(repository, '..', 'shared');

async function main(signal: AbortSignal): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options === null) {
    process.stdout.write(`${usage}\n`);
    return;
  }
  const plan = options.full ? fullPlan(options.seeds) : standardPlan(options.seeds);
  const wanted = plan.dataSets.filter(({ name }) => options.only === undefined || name === options.only);
  requireFiles(wanted, sharedFolder);
  const folderOf = ({ name }: DataSet) => join(options.out, plan.size, name);
  const parts: Part[] = [];
  for (const dataSet of plan.dataSets) {
    const outFolder = folderOf(dataSet);
    if (!wanted.includes(dataSet)) {
      const known = (await readPart(outFolder, dataSet)) ?? (await readPublishedPart(options.docs, dataSet));
      if (known !== null) parts.push(known);
      continue;
    }
    process.stderr.write(`${dataSet.title}\n`);
    const place = {
      sharedFolder,
      outFolder,
      signal,
      createProgress: () => createSimulationProgress(process.stderr),
    };
    parts.push(await runDataSet(plan, dataSet, place));
  }
  await writeDocuments(options.docs, plan, parts, options.json);
  for (const { claims } of parts) {
    for (const { dataset, statement, holds, evidence } of claims) {
      process.stdout.write(`${dataset}: ${holds ? 'yes' : 'NO '}  ${statement} (${evidence})\n`);
    }
  }
}

const abort = new AbortController();
const stop = () => abort.abort();
process.once('SIGINT', stop).once('SIGTERM', stop);
try {
  await main(abort.signal);
} catch (thrown) {
  if (abort.signal.aborted) {
    process.stderr.write('Stopped. Run the same command again to continue from here.\n');
    process.exitCode = 130;
  } else {
    const { code, message } = toAppError(thrown);
    process.stderr.write(
      `Error: ${code === 'INTERNAL' && thrown instanceof Error ? thrown.message : message}\n`,
    );
    process.exitCode = 1;
  }
} finally {
  process.off('SIGINT', stop).off('SIGTERM', stop);
}
