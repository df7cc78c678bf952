/** The FHIR resources of a file: a Bundle, NDJSON as bulk exports write it, or one resource. */
import { z } from 'zod';
import { AppError } from '../../shared/errors.ts';

export interface FoundResource {
  /** Where in the file, for messages: `entry 3`, `line 7`. */
  place: string;
  /** What other entries of the Bundle call it. */
  fullUrl: string | null;
  resource: Record<string, unknown> & { resourceType: string };
}

/** What one place of the file makes unreadable; the rest is read. */
export interface PlaceProblem {
  place: string;
  message: string;
}

export interface FhirFile {
  layout: 'bundle' | 'ndjson' | 'resource';
  resources: FoundResource[];
  problems: PlaceProblem[];
  /** The file is one page of several: a searchset that names a next one. */
  isPartOfMore: boolean;
}

export const maxFhirBytes = 128 * 2 ** 20;
export const maxFhirResources = 200_000;
/** A Consent nests about a dozen levels; without a limit a file of brackets alone exhausts the stack. */
export const maxFhirDepth = 64;

const invalid = (message: string, cause?: unknown) =>
  new AppError('FHIR_INVALID', message, cause === undefined ? {} : { cause });

/**
 * @param bytes UTF-8, with or without BOM
 * @throws AppError FHIR_INVALID when nothing of it can be read, or when it is larger than Anneal reads
 */
export function readFhirResources(bytes: Uint8Array): FhirFile {
  if (bytes.byteLength > maxFhirBytes) throw invalid('The file is larger than 128 MB.');
  const text = decode(bytes);
  const whole = parseJson(text);
  if (whole.ok) return readWhole(whole.value);
  const file = readLines(text);
  if (file === null) throw invalid(`The file is not FHIR JSON: ${whole.reason}.`);
  return file;
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw invalid('The file is not FHIR JSON: the text is not UTF-8.', error);
  }
}

const resourceSchema = z.looseObject({ resourceType: z.string().regex(/^[A-Z][A-Za-z]{0,63}$/) });

/** Others are messages, documents or histories: what they mean for a consent is not in the resource alone. */
const bundleTypes = ['collection', 'searchset', 'transaction', 'batch'] as const;
const bundleSchema = z.looseObject({
  resourceType: z.literal('Bundle'),
  type: z.enum(bundleTypes, { error: `a Bundle of another type than ${bundleTypes.join(', ')}` }),
  link: z
    .array(z.looseObject({ relation: z.string() }))
    .max(100)
    .optional(),
  entry: z.array(z.unknown()).max(maxFhirResources, `more than ${maxFhirResources} entries`).optional(),
});
const entrySchema = z.looseObject({
  fullUrl: z.string().max(2000).optional(),
  resource: z.unknown().optional(),
  request: z.looseObject({ method: z.string() }).optional(),
});

function readWhole(value: unknown): FhirFile {
  const single = resourceSchema.safeParse(value);
  if (!single.success) throw invalid('The file is not FHIR JSON: it has no "resourceType".');
  if (single.data.resourceType !== 'Bundle') {
    const resources = [{ place: 'the resource', fullUrl: null, resource: single.data }];
    return { layout: 'resource', resources, problems: [], isPartOfMore: false };
  }
  const bundle = bundleSchema.safeParse(value);
  if (!bundle.success) throw invalid(`The Bundle cannot be read: ${describe(bundle.error)}.`);
  const file: FhirFile = {
    layout: 'bundle',
    resources: [],
    problems: [],
    isPartOfMore: bundle.data.link?.some(({ relation }) => relation === 'next') ?? false,
  };
  if (hasModifier(bundle.data)) throw invalid('The Bundle has a modifier that Anneal does not know.');
  for (const [index, entry] of (bundle.data.entry ?? []).entries())
    readEntry(file, `entry ${index + 1}`, entry);
  return file;
}

const hasModifier = (value: object) =>
  'modifierExtension' in value || 'implicitRules' in value || '_implicitRules' in value;

function readEntry(file: FhirFile, place: string, value: unknown): void {
  const entry = entrySchema.safeParse(value);
  const message = entry.success ? refusalOf(entry.data) : 'is no entry of a Bundle';
  if (message !== null) file.problems.push({ place, message });
  else if (entry.data?.resource !== undefined) {
    addResource(file, place, entry.data.fullUrl ?? null, entry.data.resource);
  }
}

function refusalOf(entry: z.infer<typeof entrySchema>): string | null {
  if (hasModifier(entry)) return 'has a modifier that Anneal does not know';
  const { method = 'GET' } = entry.request ?? {};
  if (['GET', 'POST', 'PUT'].includes(method)) return null;
  return `asks for "${method.slice(0, 20)}", which Anneal does not carry out`;
}

function addResource(file: FhirFile, place: string, fullUrl: string | null, value: unknown): void {
  const parsed = resourceSchema.safeParse(value);
  if (!parsed.success) file.problems.push({ place, message: 'is no FHIR resource' });
  else if (parsed.data.resourceType === 'Bundle') {
    // Consents in it would pass unread, withdrawals among them.
    const message = 'is a Bundle inside the file, which Anneal does not open';
    file.problems.push({ place, message });
  } else file.resources.push({ place, fullUrl, resource: parsed.data });
}

/** Null when no line is an object by itself, so that the file is no NDJSON. */
function readLines(text: string): FhirFile | null {
  const file: FhirFile = { layout: 'ndjson', resources: [], problems: [], isPartOfMore: false };
  let number = 0;
  let readable = 0;
  for (const line of text.split(/\r\n|\r|\n/)) {
    number += 1;
    if (line.trim() === '') continue;
    const place = `line ${number}`;
    const parsed = parseJson(line);
    if (!parsed.ok) file.problems.push({ place, message: `is not JSON: ${parsed.reason}` });
    else if (file.resources.length >= maxFhirResources) {
      throw invalid(`The file has more than ${maxFhirResources} lines.`);
    } else {
      readable += Number(resourceSchema.safeParse(parsed.value).success);
      addResource(file, place, null, parsed.value);
    }
    // Broken JSON over many lines is not NDJSON either; its lines need not be counted to the end.
    if (readable === 0 && file.problems.length > 1000) return null;
  }
  return readable === 0 ? null : file;
}

type Parsed = { ok: true; value: unknown } | { ok: false; reason: string };

/**
 * `JSON.parse` with what it lets pass refused: a name given twice in one object (which of them holds?), names that
 * reach into JavaScript's objects, and depth.
 */
function parseJson(text: string): Parsed {
  const { depth, colons } = measure(text);
  if (depth > maxFhirDepth) return { ok: false, reason: `it is nested deeper than ${maxFhirDepth} levels` };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, reason: 'it is damaged or incomplete' };
  }
  const names = countNames(value);
  if (names === null) return { ok: false, reason: 'a name in it is not one of FHIR' };
  // Each property of the text has one colon outside of strings.
  if (names !== colons) return { ok: false, reason: 'a name stands twice in the same object' };
  return { ok: true, value };
}

/** Depth of brackets, and colons outside of strings. */
function measure(text: string): { depth: number; colons: number } {
  let depth = 0;
  let deepest = 0;
  let colons = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (inString) {
      if (code === backslash) at++;
      else if (code === quote) inString = false;
    } else if (code === quote) inString = true;
    else if (code === colon) colons++;
    else if (code === openBrace || code === openBracket) deepest = Math.max(deepest, ++depth);
    else if (code === closeBrace || code === closeBracket) depth--;
  }
  return { depth: deepest, colons };
}
const [quote, backslash, colon] = [0x22, 0x5c, 0x3a];
const [openBrace, closeBrace, openBracket, closeBracket] = [0x7b, 0x7d, 0x5b, 0x5d];

/** How many properties a value of bounded depth holds; null when one of them has a dangerous name. */
function countNames(value: unknown): number | null {
  if (typeof value !== 'object' || value === null) return 0;
  let count = 0;
  for (const [name, inner] of Object.entries(value)) {
    if (name === '__proto__' || name === 'constructor' || name === 'prototype') return null;
    const below = countNames(inner);
    if (below === null) return null;
    count += below + (Array.isArray(value) ? 0 : 1);
  }
  return count;
}

const describe = (error: z.ZodError) => {
  const issue = error.issues[0]!;
  return issue.path.length === 0 ? issue.message : `"${issue.path.join('.')}" is ${issue.message}`;
};
