/** Finds what names a subject in texts that are about something else: details of the audit trail, log files. */
import { closeSync, fsyncSync, openSync, readdirSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { runConfigSchema } from '../config/run-config.ts';
import type { ReadOnlyStore } from '../store/store.ts';

export interface SubjectWords {
  /** Pseudonym in its Unicode forms, file names and hashes of files. */
  words: ReadonlySet<string>;
  /** Signed by nobody else. */
  documents: ReadonlySet<string>;
  /** That nobody else has. */
  labels: ReadonlySet<string>;
}

export const erasedWord = '[erased]';

/** Shorter ones are only found where they stand alone or between quotation marks: "1" stands everywhere. */
const leastLength = 4;

export function wordsOf(store: ReadOnlyStore, subject: { id: number; pseudonym: string }): SubjectWords {
  const { pseudonym } = subject;
  const images = store.images.list({ subjectId: subject.id });
  const others = new Set(store.images.labelsOfOthers(subject.id));
  // A class of a run is part of its contract, whoever has it.
  for (const { config } of store.runs.list())
    for (const label of runConfigSchema.safeParse(config).data?.classes ?? []) others.add(label);
  const events = store.consentEvents.all();
  const ofOthers = new Set(
    events.flatMap(({ subjectId, documentVersion, reference }) =>
      subjectId === subject.id ? [] : [documentVersion, reference],
    ),
  );
  const documents = events
    .filter(({ subjectId }) => subjectId === subject.id)
    .flatMap(({ documentVersion, reference }) => [documentVersion, reference])
    .filter((name): name is string => name !== null && name !== '' && !ofOthers.has(name));
  const words = [
    ...[pseudonym, pseudonym.normalize('NFC'), pseudonym.normalize('NFD')],
    ...images.flatMap(({ sourceName, sha256, cropSha256 }) => [sourceName, sha256, cropSha256 ?? '']),
  ];
  return {
    words: new Set(words.filter((word) => word !== '')),
    documents: new Set(documents),
    labels: new Set(images.map(({ label }) => label).filter((label) => !others.has(label))),
  };
}

/** For a pattern with the flag `u`, which takes no escape that it does not need. */
const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');

/** Null when the text names nobody. */
function withoutWords(text: string, words: SubjectWords['words']): string | null {
  let left = text;
  for (const word of words) {
    if (left === word) return erasedWord;
    if (!left.includes(word)) continue;
    const pattern =
      word.length < leastLength
        ? `(?<=["“])${escaped(word)}(?=["”])`
        : `(?<![\\p{L}\\p{N}_])${escaped(word)}(?![\\p{L}\\p{N}_])`;
    left = left.replace(new RegExp(pattern, 'gu'), () => erasedWord);
  }
  return left === text ? null : left;
}

/** What stands under these names no person, also where a pseudonym is the same word: "1" is a version of many forms. */
const namesNobody: ReadonlySet<string> = new Set([
  ...[
    'purpose',
    'purposes',
    'documentVersion',
    'validFrom',
    'expiresAt',
    'runId',
    'siteId',
    'kind',
    'format',
  ],
  ...['changes', 'weakened', 'user', 'roles', 'timeZone', 'federation', 'channel', 'layout', 'model', 'app'],
]);

/**
 * A text of somebody else's row (the name of a file, a note) without the pseudonym; null when it does not stand there. In names
 * of files an underscore separates words.
 */
export function withoutPseudonym(text: string, pseudonym: string): string | null {
  let left = text;
  for (const form of new Set([pseudonym, pseudonym.normalize('NFC'), pseudonym.normalize('NFD')])) {
    if (form.length < leastLength) continue;
    left = left.replace(
      new RegExp(`(?<![\\p{L}\\p{N}])${escaped(form)}(?![\\p{L}\\p{N}])`, 'giu'),
      () => erasedWord,
    );
  }
  return left === text ? null : left;
}

/**
 * The details of an audit row without the subject; null when they do not name it. A row that is about this subject alone keeps
 * nothing but its keyed hash; one that is about others loses nothing that is theirs.
 */
export function withoutSubject(
  details: Record<string, unknown>,
  subject: SubjectWords & { ref: string },
): Record<string, unknown> | null {
  const { pseudonym } = details;
  if (typeof pseudonym === 'string' && subject.words.has(pseudonym))
    return { erased: true, subject: subject.ref };
  let isChanged = false;
  const isOwn = JSON.stringify(details).includes(subject.ref);
  const words = isOwn ? new Set([...subject.words, ...subject.documents]) : subject.words;
  const text = (value: string) => {
    const replaced = withoutWords(value, words);
    if (replaced !== null) isChanged = true;
    return replaced ?? value;
  };
  const walk = (value: unknown): unknown => {
    if (typeof value === 'string') return text(value);
    if (Array.isArray(value)) return value.map(walk);
    if (typeof value !== 'object' || value === null) return value;
    const isOthers = (key: string) => !isOwn && namesNobody.has(key);
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [key, isOthers(key) ? inner : walk(inner)]),
    );
  };
  /** What an import counted by label. */
  const withoutLabels = (counts: object) =>
    Object.fromEntries(
      Object.entries(counts).map(([label, count]) => {
        if (!subject.labels.has(label)) return [label, count];
        isChanged = true;
        return [erasedWord, count];
      }),
    );
  const { byLabel } = details;
  const counts = typeof byLabel === 'object' && byLabel !== null ? { byLabel: withoutLabels(byLabel) } : {};
  const replaced = { ...(walk(details) as Record<string, unknown>), ...counts };
  return isChanged ? replaced : null;
}

/** Read at once when a log is searched. */
const pieceBytes = 4 * 2 ** 20;
const filler = 0x23; // #

/**
 * Overwrites in place what names the subject in the files of a folder. Their lengths stay, so that who is writing one at the
 * moment goes on, and a crash in the middle leaves it readable.
 * @returns places overwritten
 */
export function blankOut(
  folder: string,
  { words, documents }: Pick<SubjectWords, 'words' | 'documents'>,
): number {
  // As they stand in a line of JSON.
  const patterns = [...words, ...documents].map((word) => ({
    bytes: Buffer.from(JSON.stringify(word).slice(1, -1)),
    isShort: word.length < leastLength,
  }));
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
  return files.reduce((sum, { name }) => sum + blankFile(join(folder, name), patterns), 0);
}

interface Pattern {
  bytes: Buffer;
  isShort: boolean;
}

function blankFile(file: string, patterns: readonly Pattern[]): number {
  const longest = Math.max(...patterns.map(({ bytes }) => bytes.length)) + 2;
  const descriptor = openSync(file, 'r+');
  try {
    const { size } = statSync(file);
    let places = 0;
    for (let start = 0; start < size; start += pieceBytes) {
      // With what stands before and behind it: a word may lie across two pieces.
      const from = Math.max(0, start - longest);
      const piece = Buffer.alloc(Math.min(start + pieceBytes + longest, size) - from);
      const read = piece.subarray(0, readSync(descriptor, piece, 0, piece.length, from));
      for (const pattern of patterns)
        for (const at of placesOf(read, pattern)) {
          writeSync(
            descriptor,
            Buffer.alloc(pattern.bytes.length, filler),
            0,
            pattern.bytes.length,
            from + at,
          );
          places += 1;
        }
    }
    if (places > 0) fsyncSync(descriptor);
    return places;
  } finally {
    closeSync(descriptor);
  }
}

function* placesOf(piece: Buffer, { bytes, isShort }: Pattern): Generator<number> {
  for (let at = piece.indexOf(bytes); at >= 0; at = piece.indexOf(bytes, at + 1)) {
    const [before, after] = [piece[at - 1], piece[at + bytes.length]];
    const stands = isShort
      ? isQuote(before) && (isQuote(after) || after === 0x5c)
      : !isWord(before) && !isWord(after);
    if (stands) {
      yield at;
    }
  }
}

const isQuote = (byte: number | undefined) => byte === 0x22;
/** Letters and digits; bytes of letters beyond ASCII count, too. */
const isWord = (byte: number | undefined) =>
  byte !== undefined &&
  ((byte >= 0x30 && byte <= 0x39) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x61 && byte <= 0x7a) ||
    byte === 0x5f ||
    byte >= 0x80);
