/** The computer's processor: what it is called and which vector instructions it has. */
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { outputOf } from '../../process/child-process.ts';
import { plural } from '../../shared/text.ts';

export interface Processor {
  name: string;
  vendor?: string;
  /** Physical cores that this process may use; the threads of one core share its arithmetic. */
  cores: number;
  /** Threads that this process may use at once. */
  threads: number;
  /** Of the whole computer, or what its container is allowed. */
  memoryBytes: number;
  /** Vector instructions that matter for training, for instance `AVX2`; empty where the system does not tell. */
  instructions: readonly string[];
}

export interface CpuInfo {
  name?: string;
  vendor?: string;
  /** Physical cores of the computer; absent when the text does not number them. */
  cores?: number;
  instructions: readonly string[];
}

const toolTimeoutMs = 3_000;

/** Words of Linux's flags, in the order in which they are shown. */
const instructionNames: readonly (readonly [flag: string, name: string])[] = [
  ['avx', 'AVX'],
  ['avx2', 'AVX2'],
  ['avx512f', 'AVX-512'],
  ['avx512_bf16', 'AVX-512 BF16'],
  ['amx_tile', 'AMX'],
  ['asimd', 'NEON'],
  ['sve', 'SVE'],
];

const vendorNames: Readonly<Record<string, string>> = {
  GenuineIntel: 'Intel',
  AuthenticAMD: 'AMD',
};

export async function describeProcessor(): Promise<Processor> {
  const info = await readCpuInfo();
  const threads = os.availableParallelism();
  const name = info.name ?? os.cpus()[0]?.model.trim();
  return {
    name: name === undefined || name === '' ? 'Processor' : name,
    ...(info.vendor === undefined ? {} : { vendor: info.vendor }),
    cores: Math.max(1, Math.min(threads, info.cores ?? threads)),
    threads,
    memoryBytes: Math.min(os.totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY),
    instructions: info.instructions,
  };
}

async function readCpuInfo(): Promise<CpuInfo> {
  if (process.platform === 'linux') {
    try {
      return parseCpuInfo(await readFile('/proc/cpuinfo', 'utf8'));
    } catch {
      return { instructions: [] };
    }
  }
  if (process.platform === 'darwin') {
    const cores = Number(await outputOf('/usr/sbin/sysctl', ['-n', 'hw.physicalcpu'], toolTimeoutMs));
    const vendor = process.arch === 'arm64' ? { vendor: 'Apple' } : {};
    return { ...vendor, ...(cores > 0 ? { cores } : {}), instructions: [] };
  }
  return { instructions: [] };
}

/** Reads the text of Linux's /proc/cpuinfo (x86 and ARM differ in it). */
export function parseCpuInfo(text: string): CpuInfo {
  const first = new Map<string, string>();
  const cores = new Set<string>();
  for (const block of text.split(/\n\s*\n/)) {
    const fields = new Map(
      block.split('\n').flatMap((line) => {
        const colon = line.indexOf(':');
        return colon < 0 ? [] : [[line.slice(0, colon).trim(), line.slice(colon + 1).trim()] as const];
      }),
    );
    for (const [key, value] of fields) if (!first.has(key)) first.set(key, value);
    const core = fields.get('core id');
    if (core !== undefined) cores.add(`${fields.get('physical id') ?? '0'}/${core}`);
  }
  const flags = new Set((first.get('flags') ?? first.get('Features') ?? '').split(/\s+/));
  const name = first.get('model name');
  const vendor = first.get('vendor_id');
  return {
    ...(name ? { name } : {}),
    ...(vendor ? { vendor: vendorNames[vendor] ?? vendor } : {}),
    ...(cores.size > 0 ? { cores: cores.size } : {}),
    instructions: strongest(
      instructionNames.filter(([flag]) => flags.has(flag)).map(([, instruction]) => instruction),
    ),
  };
}

/** AVX goes without saying where there is AVX2. */
function strongest(instructions: string[]): string[] {
  return instructions.includes('AVX2') ? instructions.filter((name) => name !== 'AVX') : instructions;
}

/** For instance `8 cores, 16 threads, AVX2, AVX-512`. */
export function describeProcessorDetails({ cores, threads, instructions }: Processor): string {
  return [
    plural(cores, 'core'),
    ...(threads > cores ? [plural(threads, 'thread')] : []),
    ...instructions,
  ].join(', ');
}
