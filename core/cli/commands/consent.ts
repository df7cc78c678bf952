/** `anneal consent …`: what subjects consented to. The rules are in docs/consent.md. */
import { type Command, Option } from 'commander';
import type { ConsentTerm, PurposeConsent, SubjectRow } from '../../api/contract.ts';
import { formatMinute } from '../../shared/clock-words.ts';
import { plural } from '../../shared/text.ts';
import { readWholeNumber } from '../arguments.ts';
import { formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { withAgent } from '../with-agent.ts';
import { addConsentDocumentCommands } from './consent-documents.ts';
import { addConsentFileCommands } from './consent-files.ts';
import { addConsentRightsCommands } from './consent-rights.ts';

const begin = ({ firstDay, from }: ConsentTerm) => firstDay ?? formatMinute(from);
/** People write the year 9999 for "never". */
const end = ({ lastDay, until }: ConsentTerm) =>
  lastDay ?? (until === null || until >= '9999' ? 'no end' : formatMinute(until));

/** In a withdrawal from everything. */
const purposeWords = (purpose: string) => (purpose === '*' ? 'every purpose' : purpose);

const statusWords: Record<PurposeConsent['status'], string> = {
  active: 'active',
  withdrawn: 'withdrawn',
  expired: 'expired',
  none: 'none',
  'not-yet-valid': 'not yet valid',
};

function tableRows({ pseudonym, consents }: SubjectRow): string[][] {
  if (consents.length === 0) return [[pseudonym, '', 'none', '', '', '', '']];
  return consents.map(({ purpose, status, term, next, withdrawal }) => {
    const shown = term ?? next;
    const by = status === 'withdrawn' ? withdrawal : shown;
    return [
      pseudonym,
      purposeWords(purpose),
      statusWords[status] + (term !== null && next !== null ? ` (again from ${begin(next)})` : ''),
      shown === null ? '' : begin(shown),
      shown === null ? '' : end(shown),
      shown?.documentVersion ?? '',
      by == null ? '' : `${by.recordedAt.slice(0, 10)} ${by.recordedBy}`,
    ];
  });
}

function printSubjects(rows: readonly SubjectRow[]): void {
  const header = ['subject', 'purpose', 'consent', 'first day', 'last day', 'document', 'recorded'];
  printLine(rows.length === 0 ? 'No subject fits.' : formatTable(header, rows.flatMap(tableRows)));
}

function addRecord(consent: Command): void {
  consent
    .command('record')
    .description('record a consent that was signed; a shorter one that is recorded later holds')
    .requiredOption('--subject <pseudonym>', 'who signed')
    .requiredOption(
      '--purpose <purpose>',
      'what may be done with the images, for instance federated-training',
    )
    .requiredOption('--document <version>', 'version of the form that was signed')
    .requiredOption(
      '--from <date>',
      'first day (2026-11-22, in the time zone of the site) or instant with offset',
    )
    .option('--until <date>', 'last day, which still counts; without it the consent has no end')
    .addOption(
      new Option('--given-by <who>', 'who signed').choices([
        'subject',
        'guardian',
        'representative',
      ] as const),
    )
    .option('--verified-on <date>', 'day on which somebody checked it with who signed')
    .option('--reference <name>', "the hospital's own name of the document")
    .option('--after-withdrawal', 'a new consent of a subject who has withdrawn', false)
    .option('--new-subject', 'the subject is not known here yet', false)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const row = await withAgent(options.data, (client) =>
        client.consent.record.mutate({
          pseudonym: options.subject,
          purpose: options.purpose,
          documentVersion: options.document,
          validFrom: options.from,
          expiresAt: options.until,
          givenBy: options.givenBy,
          verifiedOn: options.verifiedOn,
          reference: options.reference,
          afterWithdrawal: options.afterWithdrawal,
          newSubject: options.newSubject,
        }),
      );
      if (options.json) printJson(row);
      else printSubjects([row]);
    });
}

function addWithdraw(consent: Command): void {
  consent
    .command('withdraw')
    .description('withdraw a consent; takes effect at once, also in a round in progress')
    .requiredOption('--subject <pseudonym>', 'who withdrew')
    .addOption(new Option('--purpose <purpose>', 'from this purpose only').conflicts('all'))
    .option('--all', 'from every purpose', false)
    .option('--date <date>', 'day on which the subject withdrew, if that was before today')
    .option('--document <version>', 'version of the form on which it was withdrawn')
    .option('--reference <name>', "the hospital's own name of the document")
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options, command: Command) => {
      if (options.purpose === undefined && !options.all)
        command.error('error: say what is withdrawn: --purpose <purpose> or --all');
      const row = await withAgent(options.data, (client) =>
        client.consent.withdraw.mutate({
          pseudonym: options.subject,
          purpose: options.purpose,
          date: options.date,
          documentVersion: options.document,
          reference: options.reference,
        }),
      );
      if (options.json) printJson(row);
      else printSubjects([row]);
    });
}

function addList(consent: Command): void {
  consent
    .command('list')
    .description('show subjects with their consents, purpose by purpose')
    .option('--search <text>', 'part of the pseudonym')
    .option('--purpose <purpose>', 'only consents to this purpose')
    .addOption(
      new Option('--status <status>', 'only consents in this state').choices(
        Object.keys(statusWords) as PurposeConsent['status'][],
      ),
    )
    .addOption(
      new Option('--expiring <days>', 'active consents that end within so many days')
        .argParser(readWholeNumber)
        .conflicts(['search', 'purpose', 'status']),
    )
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      if (options.expiring !== undefined) {
        const days: number = options.expiring;
        const ending = await withAgent(options.data, (client) => client.consent.expiring.query({ days }));
        if (options.json) return printJson(ending);
        printLine(
          `${plural(ending.length, 'consent')} end${ending.length === 1 ? 's' : ''} within ${plural(days, 'day')}.`,
        );
        const rows = ending.map((one) => [
          one.pseudonym,
          one.purpose,
          one.lastDay ?? formatMinute(one.endsAt),
        ]);
        if (rows.length > 0) printLine(formatTable(['subject', 'purpose', 'last day'], rows));
        return;
      }
      const rows = await withAgent(options.data, (client) =>
        client.consent.list.query({
          search: options.search ?? '',
          purpose: options.purpose,
          status: options.status,
        }),
      );
      if (options.json) printJson(rows);
      else printSubjects(rows);
    });
}

export function addConsentCommands(program: Command): void {
  const consent = program.command('consent').description('what subjects consented to, and their rights');
  addRecord(consent);
  addWithdraw(consent);
  addList(consent);
  addConsentDocumentCommands(consent);
  addConsentFileCommands(consent);
  addConsentRightsCommands(consent);
}
