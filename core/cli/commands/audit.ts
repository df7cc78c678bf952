/** `anneal audit …`: the trail, and evidence of it for an auditor. */
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import type { EvidenceReport } from '../../evidence/report.ts';
import { verifyEvidence } from '../../evidence/verify-bundle.ts';
import { plural } from '../../shared/text.ts';
import type { AuditVerification } from '../../store/audit.ts';
import { readWholeNumber } from '../arguments.ts';
import { formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { withAgent } from '../with-agent.ts';

function readKey(text: string): string {
  if (!/^[\w-]{43}$/.test(text)) throw new InvalidArgumentError('Give the 43 characters of an Ed25519 key.');
  return text;
}

interface VerifyCall {
  key?: string;
  previous?: string;
  coordinator?: string;
  data?: string;
  json: boolean;
}

/** Ends with 1 when something does not hold. */
async function verifyBundle(file: string, { key, previous, coordinator, json }: VerifyCall): Promise<void> {
  const report = await verifyEvidence(resolve(file), {
    publicKey: key,
    previous: previous && resolve(previous),
    coordinator: coordinator && resolve(coordinator),
  });
  if (json) printJson(report);
  else printLine(describeReport(report));
  if (!report.valid) process.exitCode = 1;
}

const marks = new Map([
  [true, 'ok'],
  [false, 'NO'],
  [null, '–'],
]);

function describeReport({ valid, bundle, checks, notProven }: EvidenceReport): string {
  const { role, name, federation, createdAt, rows, head } = bundle;
  return [
    `Evidence of the ${role} "${name}" in the federation ${federation}, made ${createdAt}.`,
    formatTable(
      ['check', '', 'what it says'],
      checks.map(({ name: check, ok, sentence }) => [check, marks.get(ok) ?? '', sentence]),
    ),
    '',
    'Not proven by this file:',
    ...notProven.map((sentence) => `- ${sentence}`),
    '',
    `${plural(rows, 'row')} in the audit trail; the newest is ${head}. Keep this hash: it proves later that nothing was cut off.`,
    valid ? 'VALID: nothing in it contradicts anything else.' : 'NOT VALID: see the lines marked NO.',
  ].join('\n');
}

function describeTrail({ intact, brokenAtSeq, brokenConsent, rows, head }: AuditVerification): string {
  if (intact)
    return `The audit trail is whole: ${plural(rows, 'row')}, and all consents are those that it recorded. The newest row is ${head}.`;
  const trail =
    brokenAtSeq === null
      ? []
      : [`Row ${brokenAtSeq} of the audit trail was changed, or one before it is missing.`];
  const event = brokenConsent?.event ?? null;
  const consent =
    brokenConsent === null
      ? []
      : [
          event === null
            ? 'The consents of before version 7 are not those that the audit trail listed.'
            : `Consent ${event} is not the one that the audit trail recorded${brokenConsent.seq === null ? '' : ` in row ${brokenConsent.seq}`}.`,
        ];
  return [...trail, ...consent, 'Keep the data folder as it is, and compare it with a backup.'].join('\n');
}

async function verifyDataFolder({ data, json }: VerifyCall): Promise<void> {
  const verification = await withAgent(data, (client) => client.evidence.verify.query());
  if (json) printJson(verification);
  else printLine(describeTrail(verification));
  if (!verification.intact) process.exitCode = 1;
}

export function addAuditCommands(program: Command): void {
  const audit = program.command('audit').description('the audit trail, and evidence of it for an auditor');

  audit
    .command('export')
    .description(
      'write a signed bundle that an auditor can verify on another machine; it holds no pseudonyms',
    )
    .requiredOption('--out <file>', 'file to write, or a folder; a file that is there is never replaced')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const written = await withAgent(options.data, (client) =>
        client.evidence.export.mutate({ target: resolve(options.out) }),
      );
      if (options.json) return printJson(written);
      const { file, head, publicKey, rows, hidden } = written;
      const left = hidden === 0 ? '' : ` (${hidden} without details, which may name persons)`;
      printLine(`Written to ${file}: ${plural(rows.audit, 'row')} of the audit trail${left}.`);
      printLine(`Signed with the key ${publicKey}. The newest row is ${head}.`);
      printLine('Tell the auditor the key in another way than the file, for instance by telephone.');
    });

  audit
    .command('verify [bundle]')
    .description('verify a bundle, without any data folder; or, without one, the trail of the data folder')
    .option('--key <key>', 'key of who should have signed it', readKey)
    .option('--previous <bundle>', 'an earlier bundle of the same installation: nothing of it may be gone')
    .option('--coordinator <bundle>', 'bundle of the coordinator, which names the keys of its sites')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action((bundle, options) =>
      bundle === undefined ? verifyDataFolder(options) : verifyBundle(bundle, options),
    );

  audit
    .command('list')
    .description('show the newest rows of the audit trail')
    .option('--before <number>', 'only rows before this one', readWholeNumber)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const page = await withAgent(options.data, (client) =>
        client.audit.query(options.before === undefined ? {} : { beforeSeq: options.before }),
      );
      if (options.json) return printJson(page);
      const cells = page.rows.map(({ seq, at, actor, action, details }) => [
        ...[String(seq), at, actor, action],
        JSON.stringify(details),
      ]);
      printLine(formatTable(['row', 'at', 'who', 'what', 'details'], cells, [0]));
    });
}
