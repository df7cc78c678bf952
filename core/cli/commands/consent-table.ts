/** `anneal consent import` of a hospital's table: a list of consents in CSV or a spreadsheet. */
import { resolve } from 'node:path';
import { printJson, printLine } from '../output.ts';
import { type TableOptions, tableRequestOf } from '../table-options.ts';
import { describeConsents, describePreview } from '../table-preview.ts';
import { withAgent } from '../with-agent.ts';

export async function importConsentList(
  file: string,
  options: TableOptions & { preview: boolean; data?: string; json: boolean },
): Promise<void> {
  // The agent may run in another folder.
  const input = { file: resolve(file), table: tableRequestOf(options) };
  if (options.preview) {
    const found = await withAgent(options.data, (client) => client.site.previewConsents.mutate(input));
    if (options.json) printJson(found);
    else for (const line of describePreview(found)) printLine(line);
    return;
  }
  const report = await withAgent(options.data, (client) => client.site.importConsents.mutate(input));
  if (options.json) return printJson(report);
  const lines = describeConsents(report);
  for (const line of lines.length > 0 ? lines : ['Nothing new: all of it is recorded already.'])
    printLine(line);
}
