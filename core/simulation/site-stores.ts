/** The databases and blobs of simulated sites: filled once for each spread of the images, then copied for each run. */
import { copyFile, mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { recordConsent } from '../consent/consent.ts';
import { toAppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { openStore } from '../store/store.ts';
import type { SimulationImage } from './dataset.ts';
import type { SiteImages } from './spread.ts';

export const databaseName = 'anneal.db';

/** Spreads that are being prepared: runs of one spread may begin at the same time. */
const preparing = new Map<string, Promise<void>>();

/**
 * Makes one database for each site below `folder`, or finds those of an earlier call.
 * @param purpose what everybody consents to; recorded as the simulation's consent
 * @returns the folder that holds `<siteId>.db`
 * @throws AppError DISK_FULL | DATA_FOLDER_UNUSABLE
 */
export async function prepareSiteStores(
  folder: string,
  sites: readonly SiteImages[],
  purpose: string,
): Promise<string> {
  const place = join(folder, hashJson({ version: 1, purpose, sites }).slice(0, 16));
  const known = preparing.get(place);
  if (known !== undefined) {
    await known;
    return place;
  }
  const work = fillSites(place, sites, purpose);
  preparing.set(place, work);
  try {
    await work;
  } catch (error) {
    throw toAppError(error);
  } finally {
    preparing.delete(place);
  }
  return place;
}

async function fillSites(place: string, sites: readonly SiteImages[], purpose: string): Promise<void> {
  if ((await stat(place).catch(() => null)) !== null) return;
  const temporary = `${place}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  for (const site of sites) fillSite(join(temporary, `${site.siteId}.db`), site, purpose);
  await rename(temporary, place);
}

function fillSite(file: string, { train, evaluation, rare = [] }: SiteImages, purpose: string): void {
  const store = openStore(file, { durability: 'process' });
  try {
    store.transaction(() => {
      const datasetId = store.datasets.ensure('simulation').id;
      const subjects = new Map<string, number>();
      const insert = (image: SimulationImage, split: 'train' | 'test') => {
        const { subject, file: name, sha256, label, cropSha256, cropKind, width, height } = image;
        if (!subjects.has(subject)) {
          const { subjectId } = recordConsent(store, {
            pseudonym: subject,
            purpose,
            documentVersion: 'simulation',
            validFrom: '2000-01-01',
            recordedBy: 'simulation',
          });
          subjects.set(subject, subjectId);
        }
        const subjectId = subjects.get(subject)!;
        const picked = {
          datasetId,
          subjectId,
          sha256,
          sourceName: name,
          label,
          cropSha256,
          cropKind,
          width,
          height,
        };
        store.images.insert({ ...picked, split, status: 'ready' });
      };
      for (const image of train) insert(image, 'train');
      for (const image of evaluation) insert(image, 'test');
      for (const image of rare) insert(image, image.split);
    });
  } finally {
    store.close();
  }
}

/**
 * The folder of one run, with a folder for each site that holds its database; there whole or not at all.
 * @returns true when an interrupted run is there to go on with
 * @throws AppError DISK_FULL
 */
export async function prepareRunFolder(
  folder: string,
  template: string,
  siteIds: readonly string[],
): Promise<boolean> {
  if ((await stat(folder).catch(() => null)) !== null) return true;
  const temporary = `${folder}.tmp`;
  try {
    await rm(temporary, { recursive: true, force: true });
    await mkdir(join(temporary, 'coordinator'), { recursive: true });
    for (const siteId of siteIds) {
      await mkdir(join(temporary, siteId));
      await copyFile(join(template, `${siteId}.db`), join(temporary, siteId, databaseName));
    }
    await rename(temporary, folder);
  } catch (error) {
    throw toAppError(error);
  }
  return false;
}

/** A site's own blobs, with the crops that all simulated sites share behind them. Nothing shared is ever deleted. */
export function withSharedCrops(own: BlobStore, shared: BlobStore): BlobStore {
  const holder = (sha256: string) => (own.has(sha256) || !shared.has(sha256) ? own : shared);
  return {
    ...own,
    has: (sha256) => own.has(sha256) || shared.has(sha256),
    path: (sha256) => holder(sha256).path(sha256),
    sizeBytes: (sha256) => holder(sha256).sizeBytes(sha256),
    read: (sha256) => holder(sha256).read(sha256),
    verify: (sha256) => holder(sha256).verify(sha256),
  };
}
