/** From the bytes of a text file to its text. What the bytes do not say is asked for, never guessed. */
import { type Encoding, malformed, type ReadTableOptions } from './table.ts';

export interface DecodedText {
  text: string;
  encoding: Encoding;
  notes: string[];
}

/** @throws AppError CSV_MALFORMED naming the line of the first byte that does not fit, and the option that helps */
export function decodeText(bytes: Uint8Array, name: string, options: ReadTableOptions): DecodedText {
  const marked = byteOrderMark(bytes);
  const chosen = options.encoding;
  if (marked !== null && chosen !== undefined && chosen !== marked) {
    throw malformed(name, `line 1: the file says itself that it is ${marked}, not ${chosen}`, {
      action: 'Leave out the encoding: Anneal reads this file as it is.',
    });
  }
  const encoding = chosen ?? marked ?? unmarkedUtf16(bytes) ?? 'utf-8';
  const text = decode(bytes, name, encoding);
  const isUnicode = encoding.startsWith('utf');
  if (!isUnicode && /[^\p{ASCII}]/u.test(text) && isUtf8(bytes)) {
    throw malformed(name, `line 1: the file is UTF-8, not ${encoding}`, {
      action: 'Leave out the encoding: Anneal reads this file as it is.',
    });
  }
  const notes = encoding === 'utf-8' ? [] : [`The text was read as ${encoding}.`];
  return { text, encoding, notes };
}

function byteOrderMark(bytes: Uint8Array): Encoding | null {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return 'utf-8';
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return 'utf-16le';
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return 'utf-16be';
  return null;
}

/**
 * Without a mark: a table begins with the name of a column, of which each Latin letter has a zero byte. No other text
 * has any: a NUL in UTF-8 text is refused later, cell by cell.
 */
function unmarkedUtf16(bytes: Uint8Array): Encoding | null {
  const [first, second, third, fourth] = bytes;
  if (second === 0 && fourth === 0 && first !== 0 && third !== 0) return 'utf-16le';
  return first === 0 && third === 0 && second !== 0 && fourth !== 0 ? 'utf-16be' : null;
}

function decode(bytes: Uint8Array, name: string, encoding: Encoding): string {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (cause) {
    const line = lineOfBadByte(bytes, encoding);
    if (encoding !== 'utf-8') throw malformed(name, `line ${line}: the text is not ${encoding}`, { cause });
    throw malformed(name, `line ${line}: the text is not UTF-8`, {
      action:
        'Save the file as "CSV UTF-8" and import it again, or say how it is encoded: usually ' +
        'windows-1252 (--encoding windows-1252) when Excel wrote it.',
      cause,
    });
  }
}

const isUtf8 = (bytes: Uint8Array): boolean => {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
};

// The replacement character takes the place of the first byte that does not fit.
function lineOfBadByte(bytes: Uint8Array, encoding: Encoding): number {
  return new TextDecoder(encoding)
    .decode(bytes)
    .split('\uFFFD', 1)[0]!
    .split(/\r\n|\r|\n/).length;
}
