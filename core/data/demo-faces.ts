/** The demo's data: folders of invented cartoon faces for a few hospitals, with labels and consents. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultPurpose } from '../config/consent-defaults.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import type { Split } from '../store/records.ts';
import { demoClasses } from './demo-anatomy.ts';
import { takeImage } from './demo-image.ts';
import { drawPerson } from './demo-person.ts';
import { dirichletPartition, largestRemainder } from './partition.ts';

export interface DemoFacesOptions {
  /** One folder per site is made in it. */
  outFolder: string;
  sites: number;
  seed: number;
  /** Invented people per site on average; default 96. */
  subjectsPerSite?: number | undefined;
  /** Default 3. */
  imagesPerSubject?: number | undefined;
  /** Side of the images in pixels; default 150. */
  size?: number | undefined;
  /** Concentration of the spread of classes over sites; default 0.5. */
  alpha?: number | undefined;
  /** Share of each site's subjects that is held out; default 0.25. */
  heldOutShare?: number | undefined;
  /** People per site whose consent is withdrawn: their images are there and must not be used; default 1. */
  withdrawnPerSite?: number | undefined;
  onProgress?: ((progress: { done: number; total: number }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface DemoSite {
  /** Name of the invented hospital; also of its folder. */
  name: string;
  imagesFolder: string;
  labelsFile: string;
  subjects: number;
  /** Images with consent, by label. */
  byLabel: Record<string, { train: number; test: number }>;
}

/** Labels of the demo, in the order of its class indices. */
export const demoLabels: readonly string[] = Object.keys(demoClasses);

/** The importing side needs no face detection: cartoons are framed as crops. */
export const demoImagesAreCropped = true;

interface Subject {
  pseudonym: string;
  label: string;
  site: number;
  split: Split;
  withdrawn: boolean;
  seed: number;
}

/** Everything about the demo's people but their images; the same for the same options. */
export function planDemoSubjects(options: DemoFacesOptions): Subject[] {
  const { sites, seed } = options;
  const perSite = options.subjectsPerSite ?? 96;
  const total = sites * perSite;
  const labels = Array.from({ length: total }, (_, index) => demoLabels[index % demoLabels.length]!);
  const siteOf = dirichletPartition(labels, {
    sites,
    alpha: options.alpha ?? 0.5,
    seed: mixSeed(seed, 'demo sites'),
    minPerSite: Math.ceil(perSite * 0.7),
  });
  const subjects: Subject[] = [];
  for (let site = 0; site < sites; site++) {
    const members = createRandom(mixSeed(seed, 'demo order', site)).shuffle(
      labels.flatMap((label, index) => (siteOf[index] === site ? [{ label, index }] : [])),
    );
    const heldOut = chooseHeldOut(members, options.heldOutShare ?? 0.25);
    const withdrawn = members
      .filter(({ index }) => !heldOut.has(index))
      .slice(0, options.withdrawnPerSite ?? 1);
    members.forEach(({ label, index }, position) => {
      subjects.push({
        pseudonym: `H${site + 1}-${String(position + 1).padStart(3, '0')}`,
        label,
        site,
        split: heldOut.has(index) ? 'test' : 'train',
        withdrawn: withdrawn.some((other) => other.index === index),
        seed: mixSeed(seed, 'demo subject', index),
      });
    });
  }
  return subjects;
}

function chooseHeldOut(members: readonly { label: string; index: number }[], share: number): Set<number> {
  const groups = [...Map.groupBy(members, ({ label }) => label).values()];
  const counts = largestRemainder(
    groups.map((group) => group.length),
    Math.round(members.length * share),
  );
  return new Set(
    groups.flatMap((group, index) =>
      group.slice(0, Math.min(counts[index]!, group.length - 1)).map((member) => member.index),
    ),
  );
}

/**
 * Writes `<outFolder>/<site>/images/*` and `<outFolder>/<site>/labels.csv`. The same options give the same
 * files. No real person is in them: faces are drawn by facesjs, and the phenotypes are invented.
 * @throws AppError DISK_FULL, CANCELLED
 */
export async function generateDemoFaces(options: DemoFacesOptions): Promise<DemoSite[]> {
  const size = options.size ?? 150;
  const perSubject = options.imagesPerSubject ?? 3;
  const subjects = planDemoSubjects(options);
  const total = subjects.length * perSubject;
  const sites: DemoSite[] = [];
  let done = 0;
  try {
    for (let site = 0; site < options.sites; site++) {
      const name = `hospital-${site + 1}`;
      const folder = join(options.outFolder, name);
      const imagesFolder = join(folder, 'images');
      const labelsFile = join(folder, 'labels.csv');
      await mkdir(imagesFolder, { recursive: true });
      const members = subjects.filter((subject) => subject.site === site);
      const lines = ['file,subject,label,split,consent,consent_purpose,consent_document,consent_from'];
      for (const subject of members) {
        const random = createRandom(subject.seed);
        const person = drawPerson(subject.label, random);
        for (let index = 1; index <= perSubject; index++) {
          if (options.signal?.aborted) throw new AppError('CANCELLED', 'Drawing the demo faces was stopped.');
          const { bytes, extension } = await takeImage(person, size, random);
          const file = `${subject.pseudonym}-${index}.${extension}`;
          await writeFile(join(imagesFolder, file), bytes);
          lines.push(csvLine(file, subject));
          options.onProgress?.({ done: ++done, total });
        }
      }
      await writeFile(labelsFile, `${lines.join('\n')}\n`);
      const byLabel = countByLabel(members, perSubject);
      sites.push({ name, imagesFolder, labelsFile, subjects: members.length, byLabel });
    }
  } catch (error) {
    throw toAppError(error);
  }
  return sites;
}

// No cell holds a comma or a quotation mark.
function csvLine(file: string, { pseudonym, label, split, withdrawn }: Subject): string {
  const consent = withdrawn ? 'withdrawn' : 'granted';
  return [file, pseudonym, label, split, consent, defaultPurpose, 'demo-consent-1', '2026-01-01'].join(',');
}

function countByLabel(members: readonly Subject[], perSubject: number): DemoSite['byLabel'] {
  const counts: DemoSite['byLabel'] = {};
  for (const { label, split, withdrawn } of members) {
    if (withdrawn) continue;
    counts[label] ??= { train: 0, test: 0 };
    counts[label][split] += perSubject;
  }
  return counts;
}
