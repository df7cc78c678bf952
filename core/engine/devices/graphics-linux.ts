/** Graphics cards from Linux's /sys, which needs no tool. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import path from 'node:path';
import { type GraphicsCard, pciVendors } from './graphics-card.ts';

/** Where distributions keep the list of PCI names. */
const pciNameFiles = ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids'];

/** Drivers of screens that have no graphics processor behind them: servers and virtual machines. */
const displayOnlyDrivers = new Set([
  'ast',
  'bochs-drm',
  'cirrus',
  'hyperv_drm',
  'mgag200',
  'simple-framebuffer',
  'simpledrm',
  'vboxvideo',
  'virtio-pci',
  'vkms',
]);

/**
 * @param root /sys/class/drm or a copy of it
 * @param pciNames text of pci.ids when there is one
 */
export async function readDrmCards(root: string, pciNames?: string): Promise<GraphicsCard[]> {
  const entries = await readdir(root).catch(() => []);
  const names = entries.filter((name) => /^card\d+$/.test(name)).sort();
  const cards = await Promise.all(
    names.map((name) => readDrmCard(path.join(root, name, 'device'), pciNames)),
  );
  return cards.filter((card) => card !== null);
}

async function readDrmCard(folder: string, pciNames?: string): Promise<GraphicsCard | null> {
  const driver = await readlink(path.join(folder, 'driver')).then(
    (target) => path.basename(target),
    () => undefined,
  );
  if (driver !== undefined && displayOnlyDrivers.has(driver)) return null;
  const vendorId = await readNumber(folder, 'vendor');
  const deviceId = await readNumber(folder, 'device');
  const vendor = vendorId === undefined ? undefined : pciVendors[vendorId];
  if (vendorId === undefined || deviceId === undefined || vendor === undefined) return null;
  const memoryBytes = await readNumber(folder, 'mem_info_vram_total');
  const version = await readText(folder, 'driver/module/version');
  return {
    vendor,
    name: pciDeviceName(pciNames ?? '', vendorId, deviceId) ?? `${vendor} graphics (device ${hex(deviceId)})`,
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...(driver === undefined ? {} : { driver: version === undefined ? driver : `${driver} ${version}` }),
  };
}

/** Text of the system's pci.ids; undefined where it has none. */
export async function readPciNames(): Promise<string | undefined> {
  for (const file of pciNameFiles) {
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text !== undefined) return text;
  }
  return undefined;
}

/**
 * The marketing name in brackets where pci.ids has one, else its whole entry.
 * Source of the format: https://pci-ids.ucw.cz/
 */
export function pciDeviceName(pciNames: string, vendorId: number, deviceId: number): string | undefined {
  const vendorStart = new RegExp(`^${hex(vendorId)}  `, 'm').exec(pciNames);
  if (vendorStart === null) return undefined;
  const devices = pciNames.slice(vendorStart.index + vendorStart[0].length);
  const nextVendor = /^[0-9a-f]{4} {2}/m.exec(devices);
  const own = nextVendor === null ? devices : devices.slice(0, nextVendor.index);
  const entry = new RegExp(`^\\t${hex(deviceId)}  (.+)$`, 'm').exec(own)?.[1];
  return entry === undefined ? undefined : (/\[(.+)\]/.exec(entry)?.[1] ?? entry).trim();
}

const hex = (id: number): string => id.toString(16).padStart(4, '0');

async function readText(folder: string, file: string): Promise<string | undefined> {
  const text = await readFile(path.join(folder, file), 'utf8').catch(() => '');
  return text.trim() === '' ? undefined : text.trim();
}

/** Decimal, or hexadecimal with 0x. */
async function readNumber(folder: string, file: string): Promise<number | undefined> {
  const value = Number((await readText(folder, file)) ?? 'none');
  return Number.isFinite(value) ? value : undefined;
}
