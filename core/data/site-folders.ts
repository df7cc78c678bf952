/** Spreads one folder of images over the sites of a demo, without copying an image. */
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { defaultPurpose } from '../config/consent-defaults.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import type { Split } from '../store/records.ts';
import { readLabelsCsv } from './labels-csv.ts';
import { dirichletPartition } from './partition.ts';
import { assignSplits } from './split.ts';
import type { LabelRow } from './tables/rows.ts';

export interface SiteFoldersOptions {
  imagesFolder: string;
  labelsFile: string;
  /** Number of sites; the CSV's column `site` decides instead where there is one. */
  sites: number;
  seed: number;
  /** Concentration of the spread of labels over sites: small is uneven. */
  alpha: number;
  /** One CSV per site is written here, as `<outFolder>/<folder>/labels.csv`. */
  outFolder: string;
  /**
   * Document recorded as everybody's consent when the CSV has nothing about consent. Without it nobody
   * has consented, and no image enters a run.
   */
  consentDocument?: string | undefined;
}

export interface SiteFolder {
  name: string;
  /** The folder that was given: images stay where they are. */
  imagesFolder: string;
  labelsFile: string;
  subjects: number;
  byLabel: Record<string, { train: number; test: number }>;
}

interface PlacedRow extends LabelRow {
  split: Split;
  placedAt: number;
}

/**
 * Writes a labels CSV for each site. Training images follow a Dirichlet draw for each label, by subject
 * where every label has at least as many subjects as there are sites, else by image; held-out images
 * are spread evenly, each at one site, so that all sites together evaluate the CSV's test split once.
 * @throws AppError as readLabelsCsv; NOT_ENOUGH_DATA when a site would have nothing to train; DISK_FULL
 */
export async function splitFolderForSites(options: SiteFoldersOptions): Promise<SiteFolder[]> {
  const rows = await readLabelsCsv(options.labelsFile);
  const splits = assignSplits(
    rows.map(({ file, subject, label, split }) => ({ key: file, subject, label, split })),
    { seed: options.seed },
  );
  const withSplits = rows.map((row, index) => ({ ...row, split: splits[index]! }));
  const named = rows.some(({ site }) => site !== null);
  const { names, siteOf } = named
    ? placeByColumn(rows, basename(options.labelsFile))
    : placeByChance(withSplits, options);
  const placed = withSplits.map((row, index) => ({ ...row, placedAt: siteOf[index]! }));
  const grantAll = rows.every(({ consent }) => consent === null) ? options.consentDocument : undefined;

  const sites: SiteFolder[] = [];
  try {
    for (const [site, name] of names.entries()) {
      const members = placed.filter(({ placedAt }) => placedAt === site);
      if (!members.some(({ split }) => split === 'train')) {
        throw new AppError('NOT_ENOUGH_DATA', `The site "${name}" would have no images to train with.`, {
          action: 'Use more images or fewer sites.',
        });
      }
      const folder = join(options.outFolder, `hospital-${site + 1}`);
      const labelsFile = join(folder, 'labels.csv');
      await mkdir(folder, { recursive: true });
      await writeFile(labelsFile, toCsv(members, grantAll));
      sites.push({
        name,
        imagesFolder: options.imagesFolder,
        labelsFile,
        subjects: new Set(members.map(({ subject }) => subject)).size,
        byLabel: countByLabel(members),
      });
    }
  } catch (error) {
    throw toAppError(error);
  }
  return sites;
}

interface Placement {
  names: string[];
  /** Index into `names`, for each row. */
  siteOf: number[];
}

function placeByColumn(rows: readonly LabelRow[], labelsName: string): Placement {
  const bare = rows.find(({ site }) => site === null);
  if (bare) {
    throw new AppError(
      'CSV_MALFORMED',
      `${labelsName}, line ${bare.line}, column "site": it is empty, but other lines name a site.`,
    );
  }
  const names = [...new Set(rows.map(({ site }) => site!))].sort();
  return { names, siteOf: rows.map(({ site }) => names.indexOf(site!)) };
}

function placeByChance(
  rows: readonly (LabelRow & { split: Split })[],
  { sites, seed, alpha }: SiteFoldersOptions,
): Placement {
  const unit = unitOf(rows, sites);
  const siteOfUnit = new Map<string, number>();
  const train = firstOfEachUnit(
    rows.filter(({ split }) => split === 'train'),
    unit,
  );
  const trainSites = dirichletPartition(
    train.map(({ label }) => label),
    { sites, alpha, seed: mixSeed(seed, 'train sites'), minPerSite: Math.ceil(train.length / sites / 2) },
  );
  train.forEach((row, index) => {
    siteOfUnit.set(unit(row), trainSites[index]!);
  });
  // Dealt out label by label without starting again: sites differ by one unit at most.
  const test = firstOfEachUnit(
    rows.filter((row) => !siteOfUnit.has(unit(row))),
    unit,
  );
  const random = createRandom(mixSeed(seed, 'test sites'));
  const dealt = random.shuffle(test).sort((a, b) => (a.label < b.label ? -1 : a.label > b.label ? 1 : 0));
  dealt.forEach((row, index) => {
    siteOfUnit.set(unit(row), index % sites);
  });
  const names = Array.from({ length: sites }, (_, site) => `hospital-${site + 1}`);
  return { names, siteOf: rows.map((row) => siteOfUnit.get(unit(row))!) };
}

type Unit = (row: LabelRow & { split: Split }) => string;

/** What stays together: a subject's images of one split where there are subjects enough, else an image. */
function unitOf(rows: readonly LabelRow[], sites: number): Unit {
  const subjects = Map.groupBy(rows, ({ label }) => label);
  const enough = [...subjects.values()].every(
    (members) => new Set(members.map(({ subject }) => subject)).size >= sites,
  );
  return enough ? ({ subject, split }) => JSON.stringify([subject, split]) : ({ file }) => file;
}

function firstOfEachUnit<T extends LabelRow & { split: Split }>(rows: readonly T[], unit: Unit): T[] {
  return [...new Map(rows.toReversed().map((row) => [unit(row), row])).values()].reverse();
}

function countByLabel(rows: readonly PlacedRow[]): SiteFolder['byLabel'] {
  const counts = new Map<string, { train: number; test: number }>();
  for (const { label, split } of rows) {
    const count = counts.get(label) ?? { train: 0, test: 0 };
    count[split] += 1;
    counts.set(label, count);
  }
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
}

const csvHeader =
  'file,subject,label,split,consent,consent_purpose,consent_document,consent_from,consent_expires';
const csvCell = (text: string | null) =>
  text === null ? '' : /[",;\s]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

function toCsv(rows: readonly PlacedRow[], grantAll: string | undefined): string {
  const everybody =
    grantAll === undefined
      ? null
      : {
          kind: 'granted',
          purpose: defaultPurpose,
          documentVersion: grantAll,
          // From the moment of import.
          validFrom: null,
          expiresAt: null,
        };
  const lines = rows.map(({ file, subject, label, split, consent }) => {
    const said = consent ?? everybody;
    const cells = said
      ? [said.kind, said.purpose, said.documentVersion, said.validFrom, said.expiresAt]
      : [null, null, null, null, null];
    return [file, subject, label, split, ...cells].map(csvCell).join(',');
  });
  return `${[csvHeader, ...lines].join('\n')}\n`;
}
