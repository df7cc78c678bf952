/** What an import tells the person who started it. */

export interface SetAsideRow {
  sourceName: string;
  pseudonym: string;
  /** Plain words, for instance "no face found". */
  reason: string;
}

export interface ImportReport {
  /** Images newly recorded and fit for training. */
  imported: number;
  /** Images newly recorded that are kept aside. */
  setAside: SetAsideRow[];
  /** Images of the CSV that the dataset held already. */
  alreadyThere: number;
  /** Of the imported ones: images whose subject has no active consent. */
  withoutConsent: number;
  /** Of the imported ones, by label. */
  byLabel: Record<string, { train: number; test: number }>;
}

export interface ImportProgress {
  done: number;
  total: number;
}
