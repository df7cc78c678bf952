/** What is asked of a table, and what of it a person has to see. */
import type { Split } from '../../store/records.ts';
import type { ColumnMap, Field } from './columns.ts';
import type { DateFormat } from './dates.ts';
import type { TableRequest } from './request.ts';
import type { ConsentKind, ValueMap } from './values.ts';

/** `images`: a row for each image, with or without consents; `consents`: a list of consents alone. */
export type TableKind = 'images' | 'consents';

export const requiredFields: Record<TableKind, readonly Field[]> = {
  images: ['file', 'subject', 'label'],
  consents: ['subject', 'consent'],
};

/** What a person said about a table with the same columns before. */
export interface RememberedTable {
  map: ColumnMap;
  values: ValueMap;
  dates: DateFormat;
}

export interface UnderstandOptions {
  kind: TableKind;
  request: Pick<TableRequest, 'map' | 'values' | 'dates' | 'acceptMapping'>;
  remembered: RememberedTable | null;
  /** IANA name. */
  timeZone: string;
  allowedLabels?: readonly string[] | undefined;
  /** The stored pseudonym of a subject that is there already. */
  known?: ((pseudonym: string) => string | null) | undefined;
  /** Who is meant by a pseudonym of the table, where a person said that it is another's. */
  meant?: ReadonlyMap<string, string> | undefined;
}

/** A word of the table, with what it was taken for. */
export interface SeenWord {
  field: 'consent' | 'split';
  word: string;
  /** Null: nobody knows. */
  meaning: ConsentKind | Split | null;
  needsConfirmation: boolean;
  rows: number;
}
