/** `anneal site correct`: a label, a subject or a split that was wrong. */
import { type Command, Option } from 'commander';
import type { AgentClient } from '../../api/client.ts';
import {
  type CorrectionInput,
  type CorrectionReason,
  correctionReasonSchema,
  correctionReasons,
} from '../../config/correction.ts';
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import { printJson, printLine } from '../output.ts';
import { withAgent } from '../with-agent.ts';

interface CorrectOptions {
  label?: string;
  subject?: string;
  split?: 'train' | 'test';
  file?: string[];
  reason: CorrectionReason;
  note?: string;
  yes: boolean;
  data?: string;
  json: boolean;
}

const reasonsHelp = Object.entries(correctionReasons)
  .map(([name, words]) => `  ${name.padEnd(16)} ${words}`)
  .join('\n');

export function addSiteCorrect(site: Command): void {
  site
    .command('correct')
    .description('correct a label, the subject that images show, or the split; audited, with a reason')
    .argument('<pseudonym>', 'whose images they are now')
    .option('--label <label>', 'the right label')
    .option('--subject <pseudonym>', 'the subject that the images really show; it must be known')
    .addOption(
      new Option('--split <side>', 'all images of the subject: for training, or held out').choices([
        'train',
        'test',
      ]),
    )
    .option('--file <name...>', 'only the images with these file names; all of the subject when absent')
    .addOption(
      new Option('--reason <reason>', 'why').choices(correctionReasonSchema.options).makeOptionMandatory(),
    )
    .option('--note <text>', 'more about it; names no person')
    .option('--yes', 'answer what is asked with yes', false)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .addHelpText('after', `\nReasons:\n${reasonsHelp}`)
    .action(async (pseudonym: string, options: CorrectOptions) => {
      const { done, questions } = await withAgent(options.data, async (client) => {
        const correction = await correctionOf(client, pseudonym, options);
        const review = await client.subjects.reviewCorrection.query(correction);
        const confirmed = options.yes ? review.questions.map(({ kind }) => kind) : [];
        return { ...review, done: await client.subjects.correct.mutate({ ...correction, confirmed }) };
      });
      if (options.json) return printJson(done);
      for (const { words } of questions) printLine(`Confirmed: ${words}`);
      printLine(
        done.changes === 0
          ? 'Nothing to correct: it is so already.'
          : `${plural(done.changes, 'image')} corrected.`,
      );
    });
}

async function correctionOf(
  client: AgentClient,
  pseudonym: string,
  { file, label, subject, split, reason, note }: CorrectOptions,
): Promise<CorrectionInput> {
  return {
    ...{ pseudonym, reason, label, subject, split, note },
    ...(file !== undefined && { images: await imagesNamed(client, pseudonym, file) }),
  };
}

/** @throws AppError NOT_FOUND */
async function imagesNamed(client: AgentClient, pseudonym: string, names: string[]): Promise<number[]> {
  const limit = 48;
  const images: { id: number; sourceName: string }[] = [];
  for (let offset = 0; ; offset += limit) {
    const page = await client.subjects.images.query({ pseudonym, offset, limit, pictures: false });
    images.push(...page.rows);
    if (images.length >= page.total) break;
  }
  return names.flatMap((name) => {
    const found = images.filter(({ sourceName }) => sourceName === name);
    if (found.length > 0) return found.map(({ id }) => id);
    throw new AppError('NOT_FOUND', `"${pseudonym}" has no image with the file name "${name}".`, {
      action: 'Give the file name as it was imported, without its folder.',
    });
  });
}
