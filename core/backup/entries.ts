/**
 * What is inside a backup: one entry after the other, each a head (JSON with its length before it), the bytes of a file,
 * and their SHA-256. A name is never a path: what an entry is called says only which place of a data folder it takes.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { modelIdSchema } from '../models/installed-models.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';

const time = z.iso.datetime();
const name = z.string().max(200).nullable();

/** What a backup says of itself; its first entry. */
export const aboutSchema = z.strictObject({
  kind: z.literal('about'),
  id: z.uuid(),
  /** The moment that it shows the data folder at. */
  madeAt: time,
  annealVersion: z.string().max(64),
  databaseVersion: z.int().min(1).max(100_000),
  mode: z.enum(['unset', 'site', 'coordinator']),
  name,
  federation: name,
  /** Whether imported base models are in it. */
  withModels: z.boolean(),
});
export type About = z.infer<typeof aboutSchema>;

const size = z.int().min(0);
/** A file of the keys folder. */
export const keyNameSchema = z.string().regex(/^[a-z0-9][a-z0-9.-]{0,63}$/);
export const mostKeyBytes = 2 ** 20;

/** Names that mean a device on Windows, whatever ending they have. */
const isDevice = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;
const isPartOfPath = (part: string) =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  !/[\u0000-\u001f<>:"|?*\\]/.test(part) &&
  !/^\.*$/.test(part) &&
  !/[. ]$/.test(part) &&
  !isDevice.test(part);
/** A file of a model, relative to its folder, with `/`: nothing that leads elsewhere, on any system. */
export const modelFileSchema = z
  .string()
  .min(1)
  .max(400)
  .refine((path) => path.split('/').every(isPartOfPath), 'leads out of its folder');

const databaseSchema = z.strictObject({ kind: z.literal('database'), size });
const keySchema = z.strictObject({
  kind: z.literal('key'),
  name: keyNameSchema,
  size: size.max(mostKeyBytes),
});
const blobSchema = z.strictObject({ kind: z.literal('blob'), sha256: sha256Schema, size });
const modelSchema = z.strictObject({
  kind: z.literal('model'),
  model: modelIdSchema,
  file: modelFileSchema,
  size,
});
/** A blob that the database names and that was missing, or damaged, when the backup was made. */
const missingSchema = z.strictObject({ kind: z.literal('missing'), sha256: sha256Schema });
/** The last entry. `entries`: how many came before; `sha256`: of all their heads and hashes. */
const endSchema = z.strictObject({
  kind: z.literal('end'),
  entries: size,
  /** Files among them, and their bytes. */
  files: size,
  bytes: size,
  sha256: sha256Schema,
});

export const fileSchema = z.discriminatedUnion('kind', [databaseSchema, keySchema, blobSchema, modelSchema]);
export type FileHead = z.infer<typeof fileSchema>;

export const headSchema = z.discriminatedUnion('kind', [
  aboutSchema,
  databaseSchema,
  keySchema,
  blobSchema,
  missingSchema,
  modelSchema,
  endSchema,
]);
export type Head = z.infer<typeof headSchema>;

/** In this order the kinds come. */
export const orderOfKinds: readonly Head['kind'][] = [
  'about',
  'database',
  'key',
  'blob',
  'missing',
  'model',
  'end',
];

export const mostHeadBytes = 8 * 1024;
/** Of the length before a head. */
export const lengthBytes = 2;
export const hashBytes = 32;

export function encodeHead(head: Head): Buffer {
  const json = Buffer.from(JSON.stringify(head), 'utf8');
  if (json.length > mostHeadBytes) throw new TypeError('the head of an entry is too long');
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt16BE(json.length);
  return Buffer.concat([length, json]);
}

/** Over all heads and hashes of a backup, in order. */
export const createRunningHash = () => createHash('sha256').update('anneal backup entries\n');

/** Folders of a model above a file's place: no file may have the name of one. */
export function foldersAbove(head: FileHead): string[] {
  if (head.kind !== 'model') return [];
  const parts = placeOf(head).split('/');
  return parts.slice(1, -1).map((_, index) => parts.slice(0, index + 2).join('/'));
}

/** What may stand once only. */
export function placeOf(head: FileHead): string {
  switch (head.kind) {
    case 'database':
      return 'database';
    case 'key':
      return `key ${head.name}`;
    case 'blob':
      return `blob ${head.sha256}`;
    case 'model':
      // Where names differ by case only, one file would replace the other.
      return `model ${head.model}/${head.file.normalize('NFC').toLowerCase()}`;
  }
}
