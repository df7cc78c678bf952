/** Writes an evidence bundle, line by line, whole or not at all. */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import { link, open, rename, rm, stat } from 'node:fs/promises';
import { AppError, toAppError } from '../shared/errors.ts';
import { canonicalJson, sha256 } from '../shared/hash.ts';
import type { Store } from '../store/store.ts';
import type { Signer } from '../transport/signature.ts';
import {
  type BundleContents,
  type BundleHeader,
  bundleVersion,
  type SectionName,
  sectionNames,
  signedText,
} from './bundle-format.ts';
import { collectEvidence } from './collect-evidence.ts';

export interface EvidenceSource {
  store: Store;
  signer: Signer;
  /** Who it is about, as its federation knows it. */
  about: Pick<BundleHeader, 'role' | 'id' | 'name' | 'federation' | 'coordinatorKey' | 'annealVersion'>;
}

export interface WrittenBundle {
  file: string;
  /** Hash of the newest audit row: kept elsewhere, it proves later that nothing was cut off. */
  head: string;
  publicKey: string;
  rows: Record<SectionName, number>;
  /** Audit rows that are shown without their details. */
  hidden: number;
}

/** Bytes that are gathered before they go to the disk. */
const pieceBytes = 1 << 20;

/**
 * @param file to write; one that is there stays as it is
 * @throws AppError CONFIG_INVALID when it cannot be written, DISK_FULL
 */
export async function writeEvidence(source: EvidenceSource, file: string): Promise<WrittenBundle> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    if (await exists(file))
      throw new AppError('CONFIG_INVALID', 'There is a file of this name already.', {
        action: 'Name another file: a bundle that was handed out must not be replaced.',
      });
    const { pieces, written } = compose(source);
    {
      await using handle = await open(temporary, 'wx', 0o600);
      for (const piece of pieces) await handle.writeFile(piece);
      await handle.sync();
    }
    await moveNew(temporary, file);
    return { file, ...written };
  } catch (cause) {
    const error = toAppError(cause);
    if (error.code !== 'INTERNAL' || (cause as { syscall?: unknown }).syscall === undefined) throw error;
    throw new AppError('CONFIG_INVALID', 'The evidence cannot be written there.', {
      action: 'Name a file in a folder that you can write to.',
      cause,
    });
  } finally {
    await rm(temporary, { force: true });
  }
}

const exists = (file: string) =>
  stat(file).then(
    () => true,
    () => false,
  );

/** A link fails where a file is; disks that know no links get it by a look before. */
async function moveNew(temporary: string, file: string): Promise<void> {
  try {
    await link(temporary, file);
  } catch (thrown) {
    const { code } = thrown as { code?: unknown };
    if (code === 'EEXIST') throw new AppError('CONFIG_INVALID', 'There is a file of this name already.');
    await rename(temporary, file);
  }
}

/** All of it is read in one transaction: rows that come meanwhile are not in it. */
function compose({ store, signer, about }: EvidenceSource): {
  pieces: Buffer[];
  written: Omit<WrittenBundle, 'file'>;
} {
  const header: BundleHeader = {
    anneal: 'evidence',
    version: bundleVersion,
    ...about,
    publicKey: signer.publicKey,
    createdAt: store.now(),
  };
  const hashes = Object.fromEntries(sectionNames.map((name) => [name, createHash('sha256')])) as Record<
    SectionName,
    Hash
  >;
  const rows = Object.fromEntries(sectionNames.map((name) => [name, 0])) as Record<SectionName, number>;
  const pieces: Buffer[] = [];
  let lines: string[] = [];
  let gathered = 0;
  const add = (line: string) => {
    lines.push(line, '\n');
    gathered += line.length;
    if (gathered < pieceBytes) return;
    pieces.push(Buffer.from(lines.join(''), 'utf8'));
    lines = [];
    gathered = 0;
  };
  const head = canonicalJson(header);
  add(head);
  let hidden = 0;
  let newest = '0'.repeat(64);
  store.transaction(() => {
    for (const { section, row } of collectEvidence(store, about.role)) {
      const line = canonicalJson({ row, section });
      hashes[section].update(`${line}\n`);
      rows[section] += 1;
      if (section === 'audit') newest = row.hash;
      if (section === 'audit' && row.details === null) hidden += 1;
      add(line);
    }
  });
  const contents: BundleContents = {
    headerSha256: sha256(head),
    sections: Object.fromEntries(
      sectionNames.map((name) => [name, { rows: rows[name], sha256: hashes[name].digest('hex') }]),
    ) as BundleContents['sections'],
    head: newest,
  };
  add(canonicalJson({ contents, signature: signer.sign(signedText(contents)) }));
  pieces.push(Buffer.from(lines.join(''), 'utf8'));
  return { pieces, written: { head: newest, publicKey: signer.publicKey, rows, hidden } };
}
