/** The demo's images: generated cartoon faces, or a folder of one's own, spread over the sites. */
import { join } from 'node:path';
import { type DemoSite, demoImagesAreCropped, demoLabels, generateDemoFaces } from '../../data/demo-faces.ts';
import { splitFolderForSites } from '../../data/site-folders.ts';
import type { DemoOptions } from './options.ts';

export interface DemoData {
  sites: Pick<DemoSite, 'name' | 'imagesFolder' | 'labelsFile'>[];
  classes: string[];
  alreadyCropped: boolean;
}

export async function prepareDemoData(
  options: DemoOptions,
  folder: string,
  signal: AbortSignal,
): Promise<DemoData> {
  const outFolder = join(folder, 'images');
  if (options.images === undefined || options.labels === undefined) {
    const sites = await generateDemoFaces({
      outFolder,
      sites: options.sites,
      seed: options.seed,
      signal,
    });
    return { sites, classes: [...demoLabels], alreadyCropped: demoImagesAreCropped };
  }
  const sites = await splitFolderForSites({
    imagesFolder: options.images,
    labelsFile: options.labels,
    sites: options.sites,
    seed: options.seed,
    alpha: 0.5,
    outFolder,
    // Whoever runs the demo on their own images says that they may; each site records it as a consent.
    consentDocument: 'demo on own images',
  });
  const classes = [...new Set(sites.flatMap((site) => Object.keys(site.byLabel)))].sort();
  return { sites, classes, alreadyCropped: options.alreadyCropped };
}
