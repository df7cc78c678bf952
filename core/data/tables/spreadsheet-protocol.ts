/** What is said to the worker thread that reads a spreadsheet, and what it answers. */
import { z } from 'zod';

export const spreadsheetRequestSchema = z.strictObject({
  bytes: z.instanceof(Uint8Array),
  /** The first one when absent. */
  sheet: z.string().optional(),
});
export type SpreadsheetRequest = z.infer<typeof spreadsheetRequestSchema>;

const cellSchema = z.strictObject({
  column: z.int().min(0),
  text: z.string(),
  type: z.enum(['text', 'date', 'number', 'error']),
});

export const spreadsheetReplySchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('rows'),
    sheet: z.string(),
    /** How many sheets the file has. */
    sheets: z.int().min(1),
    /** Cells that hold something. */
    rows: z.array(z.strictObject({ line: z.int().min(1), cells: z.array(cellSchema) })),
  }),
  z.strictObject({
    kind: z.literal('refused'),
    why: z.enum(['no such sheet', 'too large', 'unreadable']),
    /** Names of the sheets, where they are known. */
    sheets: z.array(z.string()),
  }),
]);
export type SpreadsheetReply = z.infer<typeof spreadsheetReplySchema>;
