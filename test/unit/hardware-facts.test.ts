/** What the words of operating systems about hardware are read as. The texts follow the tools’ formats; they were written, not captured: no such hardware was at hand. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseLibraryCache } from '../../core/engine/devices/find-library.ts';
import { pciDeviceName, readDrmCards } from '../../core/engine/devices/graphics-linux.ts';
import { parseMacCards } from '../../core/engine/devices/graphics-macos.ts';
import { parseWindowsCards } from '../../core/engine/devices/graphics-windows.ts';
import { mergeCards } from '../../core/engine/devices/machine.ts';
import {
  isTooOldForCuda12,
  parseNvidiaDriverVersion,
  parseNvidiaSmi,
} from '../../core/engine/devices/nvidia.ts';
import { describeProcessorDetails, parseCpuInfo } from '../../core/engine/devices/processor.ts';
import { listVulkanDrivers, parseVulkanInfo } from '../../core/engine/devices/vulkan.ts';

const gibibyte = 2 ** 30;

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'anneal-hardware-'));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe('the processor', () => {
  const logical = (core: number, processor: number) => `processor\t: ${processor}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz
physical id\t: 0
core id\t\t: ${core}
cpu cores\t: 2
flags\t\t: fpu sse2 avx f16c avx2 avx512f avx512dq avx512_vnni
`;

  test('on x86: cores are counted once, however many threads they have', () => {
    const info = parseCpuInfo([logical(0, 0), logical(1, 1), logical(0, 2), logical(1, 3)].join('\n'));

    expect(info).toEqual({
      name: 'Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz',
      vendor: 'Intel',
      cores: 2,
      instructions: ['AVX2', 'AVX-512'],
    });
  });

  test('on ARM, which numbers no cores', () => {
    const text = 'processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd evtstrm sve\nCPU part\t: 0xd40\n';

    expect(parseCpuInfo(text)).toEqual({ instructions: ['NEON', 'SVE'] });
  });

  test('in words', () => {
    const processor = { name: 'x', cores: 8, threads: 16, memoryBytes: 1, instructions: ['AVX2'] };

    expect(describeProcessorDetails(processor)).toBe('8 cores, 16 threads, AVX2');
    expect(describeProcessorDetails({ ...processor, cores: 1, threads: 1 })).toBe('1 core, AVX2');
  });
});

describe('NVIDIA', () => {
  test('cards of nvidia-smi; what it does not know is left out', () => {
    const text =
      'NVIDIA GeForce RTX 4070, 12282, 550.54.14\nNVIDIA Thor, [N/A], 580.00\nNo devices were found\n';

    expect(parseNvidiaSmi(text)).toEqual([
      {
        vendor: 'NVIDIA',
        name: 'NVIDIA GeForce RTX 4070',
        driver: 'nvidia 550.54.14',
        memoryBytes: 12282 * 2 ** 20,
      },
      { vendor: 'NVIDIA', name: 'NVIDIA Thor', driver: 'nvidia 580.00' },
    ]);
  });

  test('the version of the kernel driver, closed and open', () => {
    const closed =
      'NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.223.02  Sat Oct  7 15:39:11 UTC 2023\nGCC version:  gcc 12.2.0';
    const open =
      'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build  (dvs-builder@U16)';

    expect(parseNvidiaDriverVersion(closed)).toBe('470.223.02');
    expect(parseNvidiaDriverVersion(open)).toBe('550.54.14');
    expect(parseNvidiaDriverVersion('nothing')).toBeUndefined();
  });

  test('CUDA 12 wants driver 525 on Linux and 528 on Windows', () => {
    expect(isTooOldForCuda12('nvidia 470.223.02', 'linux')).toBe(true);
    expect(isTooOldForCuda12('nvidia 525.60', 'linux')).toBe(false);
    expect(isTooOldForCuda12('nvidia 527.41', 'win32')).toBe(true);
    expect(isTooOldForCuda12('nouveau', 'linux')).toBe(false);
  });

  test('its own list replaces what the system says of its cards, and nothing else', () => {
    const intel = { vendor: 'Intel', name: 'Iris Xe' };
    const listed = [{ vendor: 'NVIDIA', name: 'RTX 4070', memoryBytes: 1 }];

    expect(mergeCards(listed, [intel, { vendor: 'NVIDIA', name: '10de:2786' }])).toEqual([...listed, intel]);
    expect(mergeCards([], [intel])).toEqual([intel]);
  });
});

describe('Linux', () => {
  const pciNames = `# list of PCI ids
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX/7900M]
\t\t1002 0e3b  Radeon RX 7900 XTX
10de  NVIDIA Corporation
\t744c  Not this one
8086  Intel Corporation
\t9a49  TigerLake-LP GT2 [Iris Xe Graphics]
`;

  test('names from pci.ids, of the right maker', () => {
    expect(pciDeviceName(pciNames, 0x1002, 0x744c)).toBe('Radeon RX 7900 XT/7900 XTX/7900M');
    expect(pciDeviceName(pciNames, 0x10de, 0x744c)).toBe('Not this one');
    expect(pciDeviceName(pciNames, 0x8086, 0x744c)).toBeUndefined();
    expect(pciDeviceName('', 0x8086, 0x9a49)).toBeUndefined();
  });

  test('cards from /sys/class/drm: connectors, virtual screens and unknown makers are none', async () => {
    await withFolder(async (root) => {
      const card = async (name: string, driver: string, files: Record<string, string>) => {
        const device = path.join(root, name, 'device');
        await mkdir(device, { recursive: true });
        await symlink(`../../../bus/pci/drivers/${driver}`, path.join(device, 'driver'));
        for (const [file, text] of Object.entries(files)) await writeFile(path.join(device, file), text);
      };
      const vram = `${24 * gibibyte}\n`;
      await card('card0', 'amdgpu', { vendor: '0x1002\n', device: '0x744c\n', mem_info_vram_total: vram });
      await card('card1', 'i915', { vendor: '0x8086\n', device: '0x1234\n' });
      await card('card2', 'virtio-pci', { vendor: '0x1af4\n', device: '0x1050\n' });
      await card('card3', 'odd', { vendor: '0xbeef\n', device: '0x0001\n' });
      await mkdir(path.join(root, 'card0-HDMI-A-1'));

      expect(await readDrmCards(root, pciNames)).toEqual([
        {
          vendor: 'AMD',
          name: 'Radeon RX 7900 XT/7900 XTX/7900M',
          memoryBytes: 24 * gibibyte,
          driver: 'amdgpu',
        },
        { vendor: 'Intel', name: 'Intel graphics (device 1234)', driver: 'i915' },
      ]);
      expect(await readDrmCards(path.join(root, 'missing'))).toEqual([]);
    });
  });

  test('a library in the cache of the dynamic loader', () => {
    const text = `2 libs found in cache
\tlibvulkan.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libvulkan.so.1
\tlibvulkan.so (libc6,x86-64) => /lib/x86_64-linux-gnu/libvulkan.so
`;

    expect(parseLibraryCache(text, 'libvulkan.so.1')).toBe('/lib/x86_64-linux-gnu/libvulkan.so.1');
    expect(parseLibraryCache(text, 'libcuda.so.1')).toBeUndefined();
  });
});

describe('Vulkan', () => {
  const block = (index: number, type: string, name: string, vendor: string) => `GPU${index}:
\tapiVersion         = 1.3.246
\tdriverVersion      = 23.1.4
\tvendorID           = ${vendor}
\tdeviceID           = 0x744c
\tdeviceType         = PHYSICAL_DEVICE_TYPE_${type}
\tdeviceName         = ${name}
\tdriverID           = DRIVER_ID_MESA_RADV
\tdriverName         = radv
\tdriverInfo         = Mesa 23.1.4
`;

  test('devices of vulkaninfo: the discrete card first, software last', () => {
    const text = `Devices:\n========\n${block(0, 'CPU', 'llvmpipe (LLVM 15.0.6, 256 bits)', '0x10005')}${block(1, 'INTEGRATED_GPU', 'Intel(R) Xe', '0x8086')}${block(2, 'DISCRETE_GPU', 'AMD Radeon RX 7900 XTX', '0x1002')}`;

    expect(parseVulkanInfo(text)).toEqual([
      { vendor: 'AMD', name: 'AMD Radeon RX 7900 XTX', driver: 'radv Mesa 23.1.4' },
      { vendor: 'Intel', name: 'Intel(R) Xe', driver: 'radv Mesa 23.1.4', integrated: true },
      {
        vendor: 'unknown maker',
        name: 'llvmpipe (LLVM 15.0.6, 256 bits)',
        driver: 'radv Mesa 23.1.4',
        software: true,
      },
    ]);
    expect(parseVulkanInfo('ERROR: no devices')).toEqual([]);
  });

  test('drivers by their manifests; one whose library is gone, or that is no manifest, does not count', async () => {
    await withFolder(async (home) => {
      const folder = path.join(home, '.local/share/vulkan/icd.d');
      await mkdir(folder, { recursive: true });
      const manifest = (library: string) => JSON.stringify({ ICD: { library_path: library } });
      await writeFile(path.join(folder, 'libvk_swiftshader.so'), '');
      await writeFile(path.join(folder, 'a.json'), manifest('./libvk_swiftshader.so'));
      await writeFile(path.join(folder, 'b.json'), manifest('libvulkan_radeon.so'));
      await writeFile(path.join(folder, 'c.json'), manifest('./gone.so'));
      await writeFile(path.join(folder, 'd.json'), '{');
      const environment = { HOME: home, XDG_DATA_DIRS: home };

      expect(await listVulkanDrivers(environment)).toEqual(
        expect.arrayContaining([
          { library: 'libvk_swiftshader.so', software: true },
          { library: 'libvulkan_radeon.so', software: false },
        ]),
      );
      expect(
        await listVulkanDrivers({ ...environment, VK_ICD_FILENAMES: path.join(folder, 'b.json') }),
      ).toEqual([{ library: 'libvulkan_radeon.so', software: false }]);
      expect(await listVulkanDrivers({ VK_DRIVER_FILES: path.join(folder, 'c.json') })).toEqual([]);
    });
  });
});

describe('Windows', () => {
  const card = (name: string, maker: string, bytes: number | null) => ({
    Name: name,
    AdapterCompatibility: maker,
    AdapterRAM: bytes,
    DriverVersion: '31.0.15.3623',
  });

  test('memory beyond 4 GiB comes from the registry; remote screens are none', () => {
    const answer = {
      cards: [
        card('NVIDIA GeForce RTX 3060', 'NVIDIA', 4293918720),
        card('Intel(R) UHD Graphics 770', 'Intel Corporation', 1073741824),
        card('Microsoft Remote Display Adapter', 'Microsoft', null),
      ],
      sizes: [{ name: 'NVIDIA GeForce RTX 3060', bytes: 12 * gibibyte }],
    };

    expect(parseWindowsCards(`\uFEFF${JSON.stringify(answer)}\r\n`)).toEqual([
      {
        vendor: 'NVIDIA',
        name: 'NVIDIA GeForce RTX 3060',
        memoryBytes: 12 * gibibyte,
        driver: '31.0.15.3623',
      },
      {
        vendor: 'Intel',
        name: 'Intel(R) UHD Graphics 770',
        memoryBytes: gibibyte,
        driver: '31.0.15.3623',
      },
    ]);
  });

  test('anything else gives no cards', () => {
    for (const text of ['', 'null', '{"cards":{}}', 'Access denied'])
      expect(parseWindowsCards(text)).toEqual([]);
  });
});

describe('macOS', () => {
  test('Apple silicon shares the memory, a card in an older Mac has its own', () => {
    const answer = {
      SPDisplaysDataType: [
        {
          _name: 'Apple M2',
          spdisplays_mtlgpufamilysupport: 'spdisplays_metal3',
          spdisplays_vendor: 'sppci_vendor_Apple',
          sppci_model: 'Apple M2',
        },
        {
          _name: 'kHW_AMDRadeonPro5500M',
          spdisplays_vendor: 'AMD (0x1002)',
          spdisplays_vram: '8 GB',
          sppci_model: 'AMD Radeon Pro 5500M',
        },
      ],
    };

    expect(parseMacCards(JSON.stringify(answer))).toEqual([
      { vendor: 'Apple', name: 'Apple M2', integrated: true, driver: 'Metal 3' },
      { vendor: 'AMD', name: 'AMD Radeon Pro 5500M', memoryBytes: 8 * gibibyte },
    ]);
  });

  test('anything else gives no cards', () => {
    for (const text of ['', '[]', '{"SPDisplaysDataType":1}']) expect(parseMacCards(text)).toEqual([]);
  });
});
