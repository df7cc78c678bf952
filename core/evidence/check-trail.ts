/** Whether the rows of a bundle's audit trail follow each other, and say what their hashes say. */
import { auditGenesisHash, fitsItsHash, redactionsIn } from '../store/audit.ts';
import type { Bundle } from './read-bundle.ts';
import { type EvidenceCheck, failed, passed } from './report.ts';

export function checkTrail({ rows, contents }: Bundle): EvidenceCheck {
  const redactions = redactionsIn(rows.audit);
  let previous = auditGenesisHash;
  let hidden = 0;
  for (const [index, row] of rows.audit.entries()) {
    const { details } = row;
    if (row.seq !== index + 1 || row.previousHash !== previous)
      return failed(
        'trail',
        `Row ${index + 1} of the audit trail is missing or does not follow the one before it.`,
      );
    previous = row.hash;
    if (details === null) {
      hidden += 1;
      continue;
    }
    if (!fitsItsHash({ ...row, details }, redactions.get(row.seq)))
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
