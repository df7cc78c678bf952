/** What a person says about a table that is imported. */
import { z } from 'zod';
import { columnMapSchema } from './columns.ts';
import { dateFormats } from './dates.ts';
import { encodings } from './table.ts';
import { valueMapSchema } from './values.ts';

const written = z.string().min(1).max(200);

export const tableRequestSchema = z.strictObject({
  encoding: z.enum(encodings).optional(),
  /** Of a spreadsheet. */
  sheet: z.string().min(1).max(100).optional(),
  /** Fields of Anneal to columns of the table; null: no column. */
  map: columnMapSchema.optional(),
  values: valueMapSchema.optional(),
  dates: z.enum(dateFormats).optional(),
  /** Written so in the table, to the pseudonym of the subject that is meant. */
  same: z.record(written, written).optional(),
  /** Look alike and are two subjects. */
  distinct: z
    .array(z.tuple([written, written]))
    .max(10_000)
    .optional(),
  /** What was suggested for columns and values is right. */
  acceptMapping: z.boolean().optional(),
  acceptWarnings: z.boolean().optional(),
  /** Subjects that were erased here may come again. */
  again: z.boolean().optional(),
});
export type TableRequest = z.infer<typeof tableRequestSchema>;
