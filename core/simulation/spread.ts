/** Which images an experiment uses, and at which simulated site each of them lies. */
import {
  columnPartition,
  dirichletPartition,
  evenPartition,
  largestRemainder,
  shardsPartition,
} from '../data/partition.ts';
import { assignSplits } from '../data/split.ts';
import { AppError } from '../shared/errors.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import { plural } from '../shared/text.ts';
import type { SimulationImage } from './dataset.ts';
import type { Experiment } from './experiment.ts';
import type { Partition } from './record.ts';

export interface UsedImages {
  train: readonly SimulationImage[];
  evaluation: readonly SimulationImage[];
  /** Sorted; those that some image trains. */
  classes: readonly string[];
  /** Of both splits, of classes that are not trained; absent where the experiment has none. */
  rare?: readonly SimulationImage[];
}

export interface SiteImages extends Omit<UsedImages, 'classes'> {
  /** Names a site in messages, for instance `site-03`. */
  siteId: string;
  /** The value of the column where a column decides; otherwise the id. */
  name: string;
}

type Choice = Pick<Experiment, 'data' | 'evaluateOn' | 'validationShare'>;

/**
 * Takes at most so many classes and images of a class as the experiment says. For a validation the test split is left out
 * altogether and a share of the training subjects takes its place, so that whoever tunes never sees a test image.
 * @throws AppError NOT_ENOUGH_DATA
 */
export function chooseImages(images: readonly SimulationImage[], choice: Choice): UsedImages {
  const { data, evaluateOn, validationShare } = choice;
  const labels = [...new Set(images.map(({ label }) => label))].sort();
  const taken = new Set(labels.slice(0, data.maxClasses));
  const wanted = images.filter(({ label }) => taken.has(label));
  let train = wanted.filter(({ split }) => split === 'train');
  let evaluation = wanted.filter(({ split }) => split === 'test');
  if (evaluateOn === 'validation') {
    const splits = assignSplits(
      train.map(({ sha256, subject, label }) => ({ key: sha256, subject, label, split: null })),
      { seed: mixSeed(data.seed, 'validation'), heldOutShare: validationShare },
    );
    evaluation = train.filter((_, index) => splits[index] === 'test');
    train = train.filter((_, index) => splits[index] === 'train');
  }
  train = atMost(train, data.maxPerClass.train, mixSeed(data.seed, 'train subset'));
  const classes = [...new Set(train.map(({ label }) => label))].sort();
  const known = new Set(classes);
  evaluation = atMost(evaluation, data.maxPerClass.test, mixSeed(data.seed, 'test subset')).filter(
    ({ label }) => known.has(label),
  );
  if (classes.length < 2) {
    throw new AppError('NOT_ENOUGH_DATA', 'The training images cover fewer than two classes.');
  }
  if (evaluation.length === 0) {
    throw new AppError('NOT_ENOUGH_DATA', `No image is left to evaluate on (${evaluateOn}).`);
  }
  const untrained = new Set(labels.slice(taken.size, taken.size + (data.rareClasses ?? 0)));
  const rare = images.filter(({ label }) => untrained.has(label));
  return { train, evaluation, classes, ...(rare.length > 0 && { rare }) };
}

function atMost(
  images: readonly SimulationImage[],
  most: number | undefined,
  seed: number,
): SimulationImage[] {
  if (most === undefined) return [...images];
  const kept = new Set<SimulationImage>();
  for (const [label, members] of Map.groupBy(images, (image) => image.label)) {
    const random = createRandom(mixSeed(seed, label));
    for (const image of random.shuffle(members).slice(0, most)) kept.add(image);
  }
  return images.filter((image) => kept.has(image));
}

export interface SpreadOptions {
  partition: Partition;
  sites: number;
  seed: number;
  keepTogether: Experiment['keepTogether'];
  evaluationSpread: Experiment['evaluationSpread'];
  /** Value of the partition's column by file, where a column decides. */
  column?: ReadonlyMap<string, string> | undefined;
}

/**
 * Puts every image at one site. The same options give the same places.
 * @throws AppError NOT_ENOUGH_DATA when a site would have nothing to train on; CSV_MALFORMED for an empty cell
 */
export function spreadImages(used: UsedImages, options: SpreadOptions): SiteImages[] {
  const { train, evaluation } = used;
  const placed =
    options.partition.kind === 'column' ? placeByColumn(used, options) : placeByChance(used, options);
  const width = Math.max(2, String(placed.sites.length).length);
  return placed.sites.map((name, site) => {
    const siteId = `site-${String(site + 1).padStart(width, '0')}`;
    const at = (places: readonly number[]) => (_: SimulationImage, index: number) => places[index] === site;
    const mine = {
      siteId,
      name: name ?? siteId,
      train: train.filter(at(placed.train)),
      evaluation: evaluation.filter(at(placed.evaluation)),
      ...rareAt(used, site, placed.sites.length),
    };
    if (mine.train.length > 0) return mine;
    throw new AppError(
      'NOT_ENOUGH_DATA',
      `The simulated site "${mine.name}" would have no images to train with.`,
      {
        action: 'Use more images or fewer sites.',
      },
    );
  });
}

/** A rare class is at one site with all its images, as in life; class after class at the next. */
function rareAt({ rare = [] }: UsedImages, site: number, sites: number): Pick<SiteImages, 'rare'> {
  const labels = [...new Set(rare.map(({ label }) => label))].sort();
  const mine = rare.filter(({ label }) => labels.indexOf(label) % sites === site);
  return mine.length === 0 ? {} : { rare: mine };
}

interface Places {
  /** Names of the sites; null where they have none of their own. */
  sites: readonly (string | null)[];
  train: readonly number[];
  evaluation: readonly number[];
}

function placeByColumn({ train, evaluation }: UsedImages, { partition, column }: SpreadOptions): Places {
  const name = partition.kind === 'column' ? partition.column : '';
  const cellOf = ({ file }: SimulationImage) => {
    const value = column?.get(file);
    if (value !== undefined && value !== '') return value;
    throw new AppError('CSV_MALFORMED', `The column "${name}" of the labels CSV has no value for "${file}".`);
  };
  const { sites, siteOf } = columnPartition([...train, ...evaluation].map(cellOf));
  return { sites, train: siteOf.slice(0, train.length), evaluation: siteOf.slice(train.length) };
}

function placeByChance(used: UsedImages, options: SpreadOptions): Places {
  const { train, evaluation } = used;
  const { sites, seed } = options;
  const unit = unitOf(train, options);
  const places = placeUnits(train, unit, (labels) => drawSites(labels, options));
  const drawEvenly = (labels: readonly string[]) =>
    evenPartition(labels, { sites, seed: mixSeed(seed, 'evaluation sites') });
  // A subject with images on both sides stays at its site.
  const known = new Map(train.map((image, index) => [unit(image), places[index]!]));
  return {
    sites: Array.from({ length: sites }, () => null),
    train: places,
    evaluation:
      options.evaluationSpread === 'even'
        ? placeUnits(evaluation, unit, drawEvenly, known)
        : placeLikeTraining(used, places, options),
  };
}

type Unit = (image: SimulationImage) => string;

function unitOf(train: readonly SimulationImage[], { keepTogether, sites }: SpreadOptions): Unit {
  const bySubject: Unit = ({ subject }) => subject;
  const byImage: Unit = ({ sha256 }) => sha256;
  if (keepTogether !== 'auto') return keepTogether === 'subject' ? bySubject : byImage;
  const enough = [...Map.groupBy(train, ({ label }) => label).values()].every(
    (members) => new Set(members.map(bySubject)).size >= sites,
  );
  return enough ? bySubject : byImage;
}

/** Places units by the label of their first image, and every image with its unit. */
function placeUnits(
  images: readonly SimulationImage[],
  unit: Unit,
  draw: (labels: readonly string[]) => number[],
  known: ReadonlyMap<string, number> = new Map(),
): number[] {
  const labels = new Map<string, string>();
  for (const image of images) {
    const key = unit(image);
    if (!known.has(key) && !labels.has(key)) labels.set(key, image.label);
  }
  const drawn = draw([...labels.values()]);
  const siteOf = new Map([
    ...known,
    ...[...labels.keys()].map((key, index) => [key, drawn[index]!] as const),
  ]);
  return images.map((image) => siteOf.get(unit(image))!);
}

/** A site gets a tenth of its fair share at least: with less it could hardly be called one. */
const leastShare = 0.1;

function drawSites(labels: readonly string[], { partition, sites, seed: runSeed }: SpreadOptions): number[] {
  const seed = mixSeed(runSeed, 'train sites');
  if (partition.kind === 'dirichlet') {
    const minPerSite = Math.max(1, Math.ceil((labels.length / sites) * leastShare));
    return dirichletPartition(labels, { sites, alpha: partition.alpha, seed, minPerSite });
  }
  if (partition.kind !== 'shards') return evenPartition(labels, { sites, seed });
  if (labels.length < sites * partition.perSite) {
    throw new AppError(
      'NOT_ENOUGH_DATA',
      `${plural(sites, 'site')} with ${plural(partition.perSite, 'shard')} each would need ${sites * partition.perSite} subjects or images; there are ${labels.length}.`,
      { action: 'Use more images, fewer sites or fewer shards.' },
    );
  }
  return shardsPartition(labels, { sites, shardsPerSite: partition.perSite, seed });
}

/** A class's evaluation images in the proportions in which the sites train on it. */
function placeLikeTraining(
  { train, evaluation }: UsedImages,
  trainSites: readonly number[],
  { sites, seed }: SpreadOptions,
): number[] {
  const places = new Array<number>(evaluation.length).fill(0);
  for (const label of [...new Set(evaluation.map((image) => image.label))].sort()) {
    const counts = new Array<number>(sites).fill(0);
    train.forEach((image, index) => {
      if (image.label === label) counts[trainSites[index]!]! += 1;
    });
    const members = evaluation.flatMap((image, index) => (image.label === label ? [index] : []));
    const random = createRandom(mixSeed(seed, 'evaluation sites', label));
    const shuffled = random.shuffle(members);
    let next = 0;
    largestRemainder(counts, members.length).forEach((size, site) => {
      for (const index of shuffled.slice(next, next + size)) places[index] = site;
      next += size;
    });
  }
  return places;
}
