/** Plain A4 documents for people outside the hospital: headings, paragraphs, facts and lists, in a standard font. */
export interface PdfDocument {
  heading(text: string): void;
  paragraph(text: string): void;
  /** Names and values, one a line. */
  facts(facts: readonly (readonly [name: string, value: string])[]): void;
  list(items: readonly string[]): void;
  finish(): Promise<Uint8Array>;
}

const margin = 56;
const [regular, bold] = ['Helvetica', 'Helvetica-Bold'];
/** Beyond Latin-1 of the standard fonts' encoding (WinAnsi, PDF 32000-1 annex D). */
const winAnsi = '€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ';

/**
 * Letters that the standard fonts lack are given by their numbers, so that nothing is lost and no other letter stands there:
 * a pseudonym in Greek letters reads `<U+039E><U+03AD>…`. The JSON beside a report has the letters themselves.
 */
export function printable(text: string): string {
  return [...text.normalize('NFC')]
    .map((letter) => {
      const code = letter.codePointAt(0)!;
      const isLatin = (code >= 0x20 && code <= 0x7e) || (code >= 0xa0 && code <= 0xff) || code === 0x0a;
      if (isLatin || winAnsi.includes(letter)) return letter;
      return `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`;
    })
    .join('');
}

/** @param writtenAt ISO 8601; the same content at the same time gives the same bytes */
export async function createPdf(title: string, { writtenAt }: { writtenAt: string }): Promise<PdfDocument> {
  // Fonts and compressors that no start of Anneal should wait for.
  const { default: PDFDocument } = await import('pdfkit');
  const pieces: Uint8Array[] = [];
  const document = new PDFDocument({
    size: 'A4',
    margins: { top: margin, bottom: margin, left: margin, right: margin },
    info: {
      Title: printable(title),
      Producer: 'Anneal',
      Creator: 'Anneal',
      CreationDate: new Date(writtenAt),
    },
    lang: 'en',
    displayTitle: true,
  });
  document.on('data', (piece: Uint8Array) => pieces.push(piece));
  const ended = new Promise<void>((resolve, reject) => {
    document.on('end', resolve);
    document.on('error', reject);
  });
  const write = (font: string, size: number, text: string, gap: number) =>
    document.font(font).fontSize(size).text(printable(text)).moveDown(gap);
  write(bold, 18, title, 0.6);
  return {
    heading: (text) => void write(bold, 12, text, 0.3),
    paragraph: (text) => void write(regular, 10, text, 0.6),
    facts(facts) {
      for (const [name, value] of facts) {
        document
          .font(bold)
          .fontSize(10)
          .text(printable(`${name}: `), { continued: true });
        document.font(regular).text(printable(value));
      }
      document.moveDown(0.6);
    },
    list(items) {
      for (const item of items)
        document
          .font(regular)
          .fontSize(10)
          .text(printable(`•  ${item}`), { indent: 8 });
      document.moveDown(0.6);
    },
    async finish() {
      document.end();
      await ended;
      return Buffer.concat(pieces);
    },
  };
}
