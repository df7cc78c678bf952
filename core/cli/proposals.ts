/** What commands say of an act that waits for a second person. */
import type { ProposalRow } from '../api/contract.ts';
import { printJson, printLine } from './output.ts';

/** The policy of the site asks for two people, and this was the first. */
export function sayProposed(proposed: ProposalRow, asJson: boolean): void {
  if (asJson) {
    printJson({ proposed });
    return;
  }
  printLine(`Proposed: it waits for a second person until ${proposed.expiresAt.slice(0, 10)}.`);
  printLine('They confirm it on the screen "Requests", or with the same command and --as NAME.');
}
