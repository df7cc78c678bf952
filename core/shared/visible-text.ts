/** Text that people compare by eye: names, labels, pseudonyms. What nobody sees in it makes two of one. */

const invisible =
  /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|[\p{Zs}--[ ]]/v;

/** What a reader would not see, as the rest of a sentence; null when there is no such thing. Ordinary spaces are fine. */
export function hiddenCharacterIn(text: string): string | null {
  const hidden = invisible.exec(text)?.[0];
  if (hidden === undefined) {
    return text.includes('\uFFFD') ? 'holds a character that was lost in an earlier conversion' : null;
  }
  const point = `U+${hidden.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`;
  if (/\p{Cc}/u.test(hidden)) return `holds a control character (${point})`;
  if (/\p{Zs}/u.test(hidden)) return `holds a space that is not an ordinary one (${point})`;
  return `holds a character that cannot be seen (${point})`;
}

/** For a sentence: short, and without characters that would change how the rest of it reads. */
export function quote(text: string, maxCharacters = 40): string {
  const clean = [...text.slice(0, 4 * maxCharacters)].map((character) =>
    invisible.test(character) ? '?' : character,
  );
  const isLong = clean.length > maxCharacters;
  return `"${isLong ? `${clean.slice(0, maxCharacters - 1).join('')}…` : clean.join('')}"`;
}
