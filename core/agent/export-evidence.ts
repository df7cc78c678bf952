/** The evidence of this installation, signed with the key with which it signs its messages. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { loadCredentials } from '../enrolment/credentials.ts';
import { loadSigner } from '../enrolment/key-files.ts';
import { type EvidenceSource, type WrittenBundle, writeEvidence } from '../evidence/write-bundle.ts';
import { AppError } from '../shared/errors.ts';
import type { DataFolder } from '../store/data-folder.ts';
import type { Store } from '../store/store.ts';
import { coordinatorId } from '../transport/topics.ts';
import type { Identity } from './identity.ts';
import { version } from './version.ts';

/**
 * @param target a new file, or a folder that is there
 * @throws AppError NOT_JOINED | FILE_EXISTS | FILE_UNREADABLE; the system's error, for instance ENOSPC
 */
export async function exportEvidenceOf(
  { store, data, identity }: { store: Store; data: DataFolder; identity: Identity | null },
  target: string,
  actor: string,
): Promise<WrittenBundle> {
  const source = { store, ...(await signed(data, identity)) };
  const isFolder = (await stat(target).catch(() => null))?.isDirectory() ?? false;
  const name = `anneal-evidence-${source.about.id}-${store.now().slice(0, 10)}.jsonl`;
  const written = await writeEvidence(source, isFolder ? path.join(target, name) : target);
  const rows = written.rows.audit;
  store.audit.append({ actor, action: 'evidence-exported', details: { rows, head: written.head } });
  return written;
}

async function signed(
  { keysDir }: DataFolder,
  identity: Identity | null,
): Promise<Omit<EvidenceSource, 'store'>> {
  if (identity?.mode === 'coordinator') {
    const signer = await loadSigner(keysDir, coordinatorId);
    const { federation, federationName: name } = identity;
    const about = {
      role: 'coordinator' as const,
      id: coordinatorId,
      name,
      federation,
      annealVersion: version,
    };
    return { signer, about: { ...about, coordinatorKey: signer.publicKey } };
  }
  const credentials = identity === null ? null : await loadCredentials(keysDir);
  if (credentials === null)
    throw new AppError('NOT_JOINED', 'This installation has no key to sign evidence with yet.', {
      action: 'Join a federation first: it is then known by that key.',
    });
  const { signer, siteId: id, siteName: name, federation, coordinatorPublicKey } = credentials;
  const about = { role: 'site' as const, id, name, federation, annealVersion: version };
  return { signer, about: { ...about, coordinatorKey: coordinatorPublicKey } };
}
