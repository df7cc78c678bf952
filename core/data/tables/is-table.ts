/** What kind of file a list of consents is, by its content, whatever its name. */
import { open } from 'node:fs/promises';

/**
 * FHIR is JSON, and JSON begins with a bracket; a table begins with the name of a column. XML, which begins with another
 * bracket, is none either. Unreadable files are no tables.
 */
export async function isTable(file: string): Promise<boolean> {
  try {
    await using opened = await open(file, 'r');
    const { buffer, bytesRead } = await opened.read(Buffer.alloc(256), 0, 256, 0);
    const start = buffer.toString('utf8', 0, bytesRead).replace(/^\uFEFF?\s+|^\uFEFF/, '');
    return start !== '' && !/^[{[<]/.test(start);
  } catch {
    return false;
  }
}
