/** Writes an evidence bundle, line by line, whole or not at all. */
import { createHash, type Hash } from 'node:crypto';
import { canonicalJson, sha256 } from '../shared/hash.ts';
import { writeNewFile } from '../store/atomic-file.ts';
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
 * @throws AppError FILE_EXISTS | FILE_UNREADABLE; the system's error, for instance ENOSPC
 */
export async function writeEvidence(source: EvidenceSource, file: string): Promise<WrittenBundle> {
  const { pieces, written } = compose(source);
  // A bundle that was handed out must not be replaced.
  await writeNewFile(file, pieces);
  return { file, ...written };
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
