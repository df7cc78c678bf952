/** What `anneal doctor` says. */
import { fastest } from '../../engine/devices/measure-devices.ts';
import type { Checkup } from '../../engine/devices/measure-machine.ts';
import type { Device } from '../../engine/engine.ts';
import { engineTitles } from '../../engine/engines.ts';
import { plural } from '../../shared/text.ts';
import { formatBytes, formatTable } from '../format.ts';

/** Devices that answer as a table, then what is missing for the others. */
export function describeDevices(devices: readonly Device[]): string {
  const usable = devices.filter((device) => device.available);
  const table = formatTable(
    ['engine', 'device', 'name', 'memory', 'driver'],
    usable.map((device) => [
      engineTitles[device.engine],
      device.kind,
      device.details === undefined ? nameOf(device) : `${nameOf(device)} (${device.details})`,
      device.memoryBytes === undefined ? '–' : formatBytes(device.memoryBytes),
      device.driver ?? '–',
    ]),
    [3],
  );
  const missing = devices
    .filter((device) => !device.available)
    .map((device) => `  ${engineTitles[device.engine]} ${device.kind}: ${device.reason ?? 'not available.'}`);
  return [
    'Available devices:',
    table,
    ...(missing.length === 0 ? [] : ['', 'Not available:', ...missing]),
  ].join('\n');
}

/** The maker in front, where the name does not start with it. */
function nameOf({ name, vendor }: Device): string {
  const isPart =
    vendor === undefined || vendor === 'none' || name.toLowerCase().includes(vendor.toLowerCase());
  return isPart ? name : `${vendor} ${name}`;
}

/** Measurements, notes and the recommendation. */
export function describeCheckup(checkup: Checkup, saved: boolean): string {
  const { devices, baseId, recommendation } = checkup;
  const rows = devices.flatMap((device) =>
    device.measurements.map((measured) => [
      `${device.engine} ${device.kind}`,
      String(measured.threads),
      String(measured.microBatch),
      measured.stepsPerSecond.toFixed(2),
      measured.imagesPerSecond.toFixed(1),
      formatBytes(measured.peakMemoryBytes),
      `${(measured.compileMs / 1000).toFixed(2)} s`,
    ]),
  );
  const failed = devices.filter((device) => !device.available && device.tried);
  const notes = [
    ...devices.flatMap(({ engine, kind, note }) =>
      note === undefined ? [] : [`${engine} ${kind}: ${note}`],
    ),
    ...failed.map(({ engine, kind, reason }) => `${engine} ${kind}: no step succeeded. ${reason}`),
  ];
  if (recommendation === null) {
    return ['', ...notes, 'No device of this machine can train.'].join('\n');
  }
  return [
    '',
    `Training steps of ${baseId}, LoRA of rank 8:`,
    formatTable(
      ['device', 'threads', 'at once', 'steps/s', 'images/s', 'memory', 'preparing'],
      rows,
      [1, 2, 3, 4, 5, 6],
    ),
    ...notes,
    '',
    ...describeRecommendation(checkup, saved),
  ].join('\n');
}

function describeRecommendation(checkup: Checkup, saved: boolean): string[] {
  const { recommendation, memoryBudgetBytes, devices } = checkup;
  if (recommendation === null) return [];
  const { engine, device, name, threads, batchSize, microBatch, imagesPerSecond } = recommendation;
  const parts =
    microBatch === batchSize ? 'computed at once' : `computed ${microBatch} at a time with the same result`;
  const used = plural(threads, 'thread');
  const slower = devices.filter(
    (other) => other.software === true && other.measurements.length > 0 && other.kind !== device,
  );
  return [
    `Recommended: ${engine} on ${device} (${name}), ${used}, batches of ${batchSize}, ${parts}: ${imagesPerSecond.toFixed(1)} images/s.`,
    `Training may use ${formatBytes(memoryBudgetBytes)} of memory here; the rest is left for other programs.`,
    ...slower.map(
      ({ name: other }) => `${other} computes on the processor, so it does not speed up training.`,
    ),
    saved
      ? 'Saved: this installation trains this way from its next start.'
      : 'To train this way, run this command again with --save.',
  ];
}

/** For scripts: everything that was found, and `recommended` null when no device can train. */
export function toJson(checkup: Checkup, saved: boolean) {
  const { baseId, batchSize, devices, recommendation, memoryBudgetBytes } = checkup;
  return {
    base: baseId,
    batchSize,
    devices: devices.map(({ tried: _, ...device }) => {
      const best = fastest(device.measurements);
      return {
        ...device,
        imagesPerSecond: best?.imagesPerSecond ?? null,
        peakMemoryBytes: best?.peakMemoryBytes ?? null,
      };
    }),
    recommended: recommendation,
    memoryBudgetBytes,
    saved: saved && recommendation !== null,
  };
}

/** What is being measured, for the progress line. */
export function describeStep(
  device: Device,
  { microBatch, threads }: { microBatch: number; threads: number },
): string {
  const [images, used] = [plural(microBatch, 'image'), plural(threads, 'thread')];
  return `Measuring ${device.engine} on ${device.kind}: ${images} at once, ${used} …`;
}
