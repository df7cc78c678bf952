/** Files and trails are whole. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { sha256 as hashOf } from '../../../core/shared/hash.ts';
import type { Evidence, OpenMember, Violation } from './evidence.ts';

const hashRow = z.object({ sha256: z.string(), purpose: z.string() });
const held = 'SELECT DISTINCT sha256, purpose FROM blob_references WHERE held';

/**
 * Every file that a row holds is there, and is what its name says. One whose bit was flipped may lie there until somebody reads it;
 * a backup leaves it out, and where that is restored it is missing until it is needed.
 */
export function wholeFiles({ coordinator, sites, flips, everRestored }: Evidence): Violation[] {
  const damagedIn = ({ member, dataFolder, db }: OpenMember): Violation[] =>
    db.all(hashRow, held).flatMap(({ sha256, purpose }) => {
      const file = join(dataFolder, 'blobs', sha256.slice(0, 2), sha256);
      const flipped = flips.filter((flip) => flip.member === member && flip.file.endsWith(sha256));
      // A site may hold a row of a state that it has not fetched yet; an update or a crop has no other home.
      const isLeftOut = flipped.length > 0 && everRestored.has(member);
      if (!existsSync(file))
        return isOwn(member, purpose) && !isLeftOut ? [lost(member, sha256, purpose, 'is missing')] : [];
      const found = hashOf(readFileSync(file));
      const isAsFlipped = flipped.some(({ damaged }) => damaged === found);
      return found === sha256 || isAsFlipped ? [] : [lost(member, sha256, purpose, 'is damaged')];
    });
  return [coordinator, ...sites].flatMap(damagedIn);
}

const isOwn = (member: string, purpose: string) =>
  member === 'coordinator'
    ? purpose === 'global-state' || purpose === 'frozen-base'
    : purpose === 'crop' || purpose === 'local-parameters';

const lost = (member: string, sha256: string, purpose: string, how: string): Violation => ({
  invariant: 'integrity',
  what: `${member}: ${purpose} ${sha256.slice(0, 12)} ${how}`,
});

/** Databases pass SQLite's own check, and each trail verifies with the consents that it names. */
export function wholeTrails({ coordinator, sites }: Evidence): Violation[] {
  return [coordinator, ...sites].flatMap(({ member, store, db }) => {
    const { intact, brokenAtSeq, brokenConsent } = store.audit.verify();
    const check = db.pragma('quick_check');
    return [
      ...(intact
        ? []
        : [
            {
              invariant: 'audit chain',
              what: `${member}: broken at ${brokenAtSeq ?? JSON.stringify(brokenConsent)}`,
            },
          ]),
      ...(check === 'ok' ? [] : [{ invariant: 'integrity', what: `${member}: database: ${check}` }]),
    ];
  });
}
