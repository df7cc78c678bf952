/** What WebGPU needs on Linux: Vulkan's loader and at least one driver (ICD). */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { outputOf } from '../../process/child-process.ts';
import { jsonText } from '../../shared/text.ts';
import { findLibrary } from './find-library.ts';
import { type GraphicsCard, isSoftwareRenderer, pciVendors } from './graphics-card.ts';

export interface VulkanState {
  /** Whether libvulkan.so.1 can be found. */
  hasLoader: boolean;
  drivers: readonly VulkanDriver[];
  /** What `vulkaninfo` lists, the fastest kind first; null when it is not installed or fails. */
  devices: readonly GraphicsCard[] | null;
}

export interface VulkanDriver {
  /** Name of the driver's library, for instance `libvulkan_radeon.so`. */
  library: string;
  software: boolean;
}

const toolTimeoutMs = 10_000;
const manifestSchema = z.object({ ICD: z.object({ library_path: z.string() }) });

/** @param environment as of the process that will train; tests give their own */
export async function inspectVulkan(environment: NodeJS.ProcessEnv = process.env): Promise<VulkanState> {
  const [loader, drivers, info] = await Promise.all([
    findLibrary('libvulkan.so.1', environment),
    listVulkanDrivers(environment),
    outputOf('vulkaninfo', ['--summary'], toolTimeoutMs),
  ]);
  return {
    hasLoader: loader !== undefined,
    drivers,
    devices: info === null ? null : parseVulkanInfo(info),
  };
}

/**
 * Drivers by their manifests, in the places that the loader searches.
 * Source: https://github.com/KhronosGroup/Vulkan-Loader/blob/main/docs/LoaderDriverInterface.md
 */
export async function listVulkanDrivers(environment: NodeJS.ProcessEnv): Promise<VulkanDriver[]> {
  const chosen = environment['VK_DRIVER_FILES'] ?? environment['VK_ICD_FILENAMES'];
  const files =
    chosen !== undefined && chosen !== ''
      ? await manifestsOf(splitPaths(chosen))
      : await manifestsOf([
          ...manifestFolders(environment),
          ...splitPaths(environment['VK_ADD_DRIVER_FILES']),
        ]);
  const drivers = await Promise.all(files.map(readManifest));
  return drivers.filter((driver) => driver !== null);
}

function manifestFolders(environment: NodeJS.ProcessEnv): string[] {
  const home = environment['HOME'] ?? os.homedir();
  const roots = [
    environment['XDG_CONFIG_HOME'] ?? path.join(home, '.config'),
    '/etc/xdg',
    '/etc',
    environment['XDG_DATA_HOME'] ?? path.join(home, '.local/share'),
    ...splitPaths(environment['XDG_DATA_DIRS'] ?? '/usr/local/share:/usr/share'),
  ];
  return roots.map((root) => path.join(root, 'vulkan', 'icd.d'));
}

const splitPaths = (text = ''): string[] => text.split(':').filter((part) => part !== '');

/** Each path is a manifest or a folder of them. */
async function manifestsOf(places: readonly string[]): Promise<string[]> {
  const found = await Promise.all(
    places.map(async (place) => {
      if (place.endsWith('.json')) return [place];
      const names = await readdir(place).catch(() => []);
      return names.filter((name) => name.endsWith('.json')).map((name) => path.join(place, name));
    }),
  );
  return found.flat();
}

async function readManifest(file: string): Promise<VulkanDriver | null> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const library = jsonText.pipe(manifestSchema).safeParse(text).data?.ICD.library_path;
  // A bare name is looked up as any library; anything with a slash is a path beside the manifest.
  const isMissing = library?.includes('/') && !existsSync(path.resolve(path.dirname(file), library));
  if (library === undefined || isMissing) return null;
  return { library: path.basename(library), software: isSoftwareRenderer(library) };
}

const typeOrder = ['DISCRETE_GPU', 'INTEGRATED_GPU', 'VIRTUAL_GPU', 'OTHER', 'CPU'];

/** @param text output of `vulkaninfo --summary` */
export function parseVulkanInfo(text: string): GraphicsCard[] {
  const devices = text
    .split(/^GPU\d+:$/m)
    .slice(1)
    .flatMap((block) => {
      const field = (name: string) => new RegExp(`^\\s*${name}\\s*= *(.+?) *$`, 'm').exec(block)?.[1];
      const name = field('deviceName');
      if (name === undefined) return [];
      const type = (field('deviceType') ?? '').replace('PHYSICAL_DEVICE_TYPE_', '');
      const vendor = pciVendors[Number(field('vendorID'))];
      const driver = [field('driverName'), field('driverInfo')]
        .filter((part) => part !== undefined)
        .join(' ');
      const card: GraphicsCard = {
        vendor: vendor ?? 'unknown maker',
        name,
        ...(driver === '' ? {} : { driver }),
        ...(type === 'INTEGRATED_GPU' ? { integrated: true } : {}),
        ...(type === 'CPU' || isSoftwareRenderer(name) ? { software: true } : {}),
      };
      return [{ card, order: typeOrder.indexOf(type) }];
    });
  return devices.sort((a, b) => a.order - b.order).map(({ card }) => card);
}
