/** Reads an evidence bundle, which may come from anybody, with bounds on everything; and checks that it is as it was signed. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { canonicalJson, sha256 } from '../shared/hash.ts';
import { verifySignature } from '../transport/signature.ts';
import {
  type BundleContents,
  type BundleHeader,
  evidenceInvalid,
  headerSchema,
  maxBundleBytes,
  maxLineBytes,
  maxRows,
  type SectionName,
  type SectionRow,
  sealSchema,
  sectionNames,
  sections,
  signedText,
} from './bundle-format.ts';

export interface Bundle {
  header: BundleHeader;
  contents: BundleContents;
  rows: { [Name in SectionName]: SectionRow<Name>[] };
}

const lineSchema = z.strictObject({
  section: z.enum(sectionNames as [SectionName, ...SectionName[]]),
  row: z.unknown(),
});

/**
 * @throws AppError NOT_FOUND when there is no such file; EVIDENCE_INVALID when it is not a bundle, is damaged, was changed, or
 *   its signature is not that of the key it names
 */
export async function readBundle(file: string): Promise<Bundle> {
  const rows = Object.fromEntries(sectionNames.map((name) => [name, [] as unknown[]]));
  const hashes = new Map(sectionNames.map((name) => [name, createHash('sha256')]));
  let header: { value: BundleHeader; sha256: string } | null = null;
  let seal: z.infer<typeof sealSchema> | null = null;
  let section = 0;
  let number = 0;
  for await (const line of linesOf(file)) {
    number += 1;
    if (number > maxRows) throw evidenceInvalid('The bundle has more rows than any installation writes.');
    if (seal !== null) throw evidenceInvalid('Something follows the seal of the bundle.');
    const value = parseLine(line, number);
    if (header === null) {
      header = { value: parsed(headerSchema, value, number), sha256: sha256(line) };
      continue;
    }
    if (typeof value === 'object' && value !== null && Object.hasOwn(value, 'contents')) {
      seal = parsed(sealSchema, value, number);
      continue;
    }
    const { section: name, row } = parsed(lineSchema, value, number);
    const at = sectionNames.indexOf(name);
    if (at < section) throw evidenceInvalid(`Line ${number} of the bundle is out of order.`);
    section = at;
    rows[name]!.push(parsed<unknown>(sections[name], row, number));
    hashes.get(name)!.update(line).update('\n');
  }
  if (header === null || seal === null)
    throw evidenceInvalid('The bundle ends too early: it has no seal. A part of it is missing.');
  const { contents, signature } = seal;
  if (
    !isCanonicalBase64(signature) ||
    !verifySignature(header.value.publicKey, signedText(contents), signature)
  )
    throw evidenceInvalid('The signature of the bundle is not valid: it was changed after it was signed.');
  if (contents.headerSha256 !== header.sha256)
    throw evidenceInvalid('The header of the bundle is not the one that was signed.');
  for (const name of sectionNames) {
    const signed = contents.sections[name];
    if (rows[name]!.length !== signed.rows || hashes.get(name)!.digest('hex') !== signed.sha256)
      throw evidenceInvalid(`The part "${name}" of the bundle is not the one that was signed.`);
  }
  return { header: header.value, contents, rows: rows as Bundle['rows'] };
}

/** There must be one way only to write a bundle: base64url has bits at its end that mean nothing. */
const isCanonicalBase64 = (text: string) => Buffer.from(text, 'base64url').toString('base64url') === text;

function parseLine(line: Buffer, number: number): unknown {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(line);
    value = JSON.parse(text);
    if (canonicalJson(value) !== text) throw new TypeError('not canonical');
  } catch (cause) {
    throw evidenceInvalid(
      number === 1
        ? 'This file is not an evidence bundle of Anneal.'
        : `Line ${number} of the bundle was not written by Anneal.`,
      cause,
    );
  }
  return value;
}

function parsed<T>(schema: z.ZodType<T>, value: unknown, number: number): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  if (number > 1) throw evidenceInvalid(`Line ${number} of the bundle is not as it should be.`, result.error);
  const version = z.looseObject({ anneal: z.literal('evidence'), version: z.int() }).safeParse(value)
    .data?.version;
  throw evidenceInvalid(
    version === undefined || version === 1
      ? 'This file is not an evidence bundle of Anneal.'
      : `The bundle was written by another version of Anneal (format ${version}; this one reads format 1).`,
    result.error,
  );
}

/** Every line ends with a line feed, the last one too. */
async function* linesOf(file: string): AsyncGenerator<Buffer> {
  const found = await stat(file).catch((cause: unknown) => {
    throw new AppError('NOT_FOUND', 'There is no such bundle.', {
      action: 'Check the path of the file.',
      cause,
    });
  });
  if (!found.isFile()) throw evidenceInvalid('This is a folder, not an evidence bundle.');
  if (found.size > maxBundleBytes)
    throw evidenceInvalid('The bundle is larger than any installation writes.');
  let rest: Buffer[] = [];
  let size = 0;
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      yield Buffer.concat([...rest, chunk.subarray(start, end)]);
      [rest, size, start] = [[], 0, end + 1];
    }
    rest.push(chunk.subarray(start));
    size += chunk.length - start;
    if (size > maxLineBytes)
      throw evidenceInvalid('A line of the bundle is longer than any that Anneal writes.');
  }
  if (size > 0) throw evidenceInvalid('The bundle ends in the middle of a line. A part of it is missing.');
}
