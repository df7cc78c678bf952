/** Whether the rows of a bundle's audit trail follow each other, and say what their hashes say. */
import { z } from 'zod';
import { auditGenesisHash, chainHash, erasedAction, redactionSchema } from '../store/audit.ts';
import type { Bundle } from './read-bundle.ts';
import { type EvidenceCheck, failed, passed } from './report.ts';

const redactionsSchema = z.object({ redacted: z.array(redactionSchema) });

/** What erasures say of earlier rows whose details they replaced, by row. */
function redactionsIn({ audit }: Bundle['rows']): Map<number, { hash: string; becomes: string }> {
  const said = audit.flatMap((row) => {
    if (row.action !== erasedAction || row.details === null) return [];
    const details = redactionsSchema.safeParse(JSON.parse(row.details)).data?.redacted ?? [];
    return details.filter(({ seq }) => seq < row.seq);
  });
  return new Map(said.map((redaction) => [redaction.seq, redaction]));
}

export function checkTrail({ rows, contents }: Bundle): EvidenceCheck {
  const redactions = redactionsIn(rows);
  let previous = auditGenesisHash;
  let hidden = 0;
  for (const [index, row] of rows.audit.entries()) {
    const { hash, details, ...content } = row;
    if (row.seq !== index + 1 || row.previousHash !== previous)
      return failed(
        'trail',
        `Row ${index + 1} of the audit trail is missing or does not follow the one before it.`,
      );
    previous = hash;
    if (details === null) {
      hidden += 1;
      continue;
    }
    const own = chainHash({ ...content, details });
    const redaction = redactions.get(row.seq);
    if (own !== hash && !(redaction?.hash === hash && redaction.becomes === own))
      return failed(
        'trail',
        `Row ${row.seq} of the audit trail was changed: its content does not fit its hash.`,
      );
  }
  if (previous !== contents.head)
    return failed('trail', 'The audit trail does not end with the row that the seal names.');
  const shown = rows.audit.length - hidden;
  return passed(
    'trail',
    hidden === 0
      ? `All ${shown} rows of the audit trail are whole, and each follows the one before.`
      : `${shown} rows of the audit trail are whole; of ${hidden} more the content is not shown because it may name persons, and only their place in the chain is checked.`,
  );
}
