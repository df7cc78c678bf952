/** What the rows of a table say, once columns, words and dates are understood. */
import type { Split } from '../../store/records.ts';
import type { ConsentKind } from './values.ts';

/** One image as the table describes it. */
export interface LabelRow {
  /** Line of the table, 1-based, for messages. */
  line: number;
  /** Relative to the folder of images, with `/` as separator; never leads out of it. */
  file: string;
  subject: string;
  label: string;
  split: Split | null;
  site: string | null;
  /** Null when the table says nothing about consent. */
  consent: LabelConsent | null;
}

/** One row of a list of consents. */
export type ConsentRow = Pick<LabelRow, 'line' | 'subject'> & { consent: LabelConsent };

export interface LabelConsent {
  kind: ConsentKind;
  /** `*` in a withdrawal: every one. */
  purpose: string;
  /** Null when the table does not name the consent document. */
  documentVersion: string | null;
  /** ISO 8601 date or date-time with offset; null when not given. */
  validFrom: string | null;
  expiresAt: string | null;
}
