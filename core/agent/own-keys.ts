/**
 * Whether the keys in a data folder are those that its database was used with. With the keys of somebody else an installation
 * would be somebody else to its federation, and with the database of somebody else it would take all its files for rubbish.
 */
import { createHash, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { isOfAnother } from '../enrolment/authority.ts';
import { AppError } from '../shared/errors.ts';
import { jsonText } from '../shared/text.ts';
import type { Store } from '../store/store.ts';
import type { Identity } from './identity.ts';
import { keyFilesOf } from './installation.ts';

/** SHA-256 of public keys (SPKI), by the file that holds the private one. */
const boundSchema = z.record(z.string(), z.string().length(64));
const setting = 'agent.keys';

const memberSchema = jsonText.pipe(z.object({ siteId: z.string(), federation: z.string() }));

/** Null where there is none or it cannot be read: that is said when it is used. */
function readOrNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

function fingerprintsIn(keysDir: string, { mode }: Identity): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of keyFilesOf[mode].filter((file) => file.endsWith('-key.pem'))) {
    const print = readOrNull(() => {
      const key = createPublicKey(readFileSync(path.join(keysDir, name), 'utf8'));
      return createHash('sha256')
        .update(key.export({ type: 'spki', format: 'der' }))
        .digest('hex');
    });
    if (print !== null) found.set(name, print);
  }
  return found;
}

/** What says itself whose it is; also of versions that did not bind their keys. */
function strangeByName(keysDir: string, identity: Identity): string | null {
  const read = (name: string) => readFileSync(path.join(keysDir, name), 'utf8');
  if (identity.mode === 'site') {
    const member = readOrNull(() => memberSchema.safeParse(read('membership.json')).data ?? null);
    const isOwn = member?.siteId === identity.siteId && member.federation === identity.federation;
    return member === null || isOwn ? null : 'membership.json';
  }
  const certificate = readOrNull(() => read('authority.pem'));
  return certificate !== null && isOfAnother(certificate, identity.federation) ? 'authority.pem' : null;
}

/**
 * Call it before anything is done with the files that the database does not name.
 * @throws AppError KEYS_DIFFER
 */
export function requireOwnKeys(
  store: Pick<Store, 'settings'>,
  keysDir: string,
  identity: Identity | null,
): void {
  if (identity === null) return;
  const bound = store.settings.get(setting, boundSchema) ?? {};
  const changed = [...fingerprintsIn(keysDir, identity)].find(
    ([name, print]) => bound[name] !== undefined && bound[name] !== print,
  );
  const strange = changed?.[0] ?? strangeByName(keysDir, identity);
  if (strange === null) return;
  throw new AppError(
    'KEYS_DIFFER',
    `The database of this data folder and the file "${strange}" in its folder "keys" belong to different installations.`,
  );
}

/** Writes down with which keys this database is used, once they are. */
export function bindKeys(store: Pick<Store, 'settings'>, keysDir: string, identity: Identity): void {
  const before = store.settings.get(setting, boundSchema) ?? {};
  const found = Object.fromEntries(fingerprintsIn(keysDir, identity));
  if (Object.keys(found).every((name) => before[name] !== undefined)) return;
  store.settings.set(setting, { ...found, ...before });
}
