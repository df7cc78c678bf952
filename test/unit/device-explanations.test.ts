/** What is said of devices on machines that we do not have: described by hand, explained by the real code. */
import { describe, expect, test } from 'vitest';
import type { GraphicsCard } from '../../core/engine/devices/graphics-card.ts';
import type { Machine } from '../../core/engine/devices/machine.ts';
import { describeAccelerator } from '../../core/engine/onnxruntime/devices.ts';
import { explainFailure, explainNoHardware, furtherNeeds } from '../../core/engine/onnxruntime/explain.ts';

const failed = { how: 'failed', text: 'No supported adapters' } as const;
const gibibyte = 2 ** 30;
const nvidia: GraphicsCard = {
  vendor: 'NVIDIA',
  name: 'NVIDIA GeForce RTX 4070',
  memoryBytes: 12 * gibibyte,
  driver: 'nvidia 550.54.14',
};
const intel: GraphicsCard = { vendor: 'Intel', name: 'Iris Xe Graphics', driver: 'i915' };

function machine(changes: Partial<Machine> = {}): Machine {
  return {
    platform: 'linux',
    arch: 'x64',
    processor: { name: 'CPU', cores: 4, threads: 4, memoryBytes: gibibyte, instructions: [] },
    cards: [],
    vulkan: { hasLoader: true, drivers: [], devices: null },
    missingCudaLibraries: [],
    ...changes,
  };
}

describe('WebGPU on Linux', () => {
  test('without the Vulkan loader: which package brings it', () => {
    const vulkan = { hasLoader: false, drivers: [], devices: null };

    const reason = explainFailure('webgpu', machine({ cards: [intel], vulkan }), failed);

    expect(reason).toMatch(/^The Vulkan loader \(libvulkan\.so\.1\) is missing: .*libvulkan1/);
    expect(reason).toMatch(/mesa-vulkan-drivers/);
  });

  test('without a driver: the one that fits the card', () => {
    expect(explainFailure('webgpu', machine({ cards: [intel] }), failed)).toMatch(/mesa-vulkan-drivers/);
    expect(explainFailure('webgpu', machine({ cards: [nvidia] }), failed)).toMatch(/nvidia-vulkan-icd/);
    expect(explainFailure('webgpu', machine(), failed)).toMatch(/^No graphics card was found\. .*container/);
  });

  test('with everything there, a crash and a hang are told apart', () => {
    const drivers = [{ library: 'libvulkan_intel.so', software: false }];
    const whole = machine({ cards: [intel], vulkan: { hasLoader: true, drivers, devices: null } });

    expect(explainFailure('webgpu', whole, { how: 'crashed', text: '' })).toMatch(/crashed/);
    expect(explainFailure('webgpu', whole, { how: 'timeout', text: '' })).toMatch(/20 seconds/);
    expect(explainFailure('webgpu', whole, failed)).toMatch(/refused/);
  });
});

describe('CUDA', () => {
  test('no card and no driver is said first, before anybody downloads anything', () => {
    const bare = machine({ missingCudaLibraries: ['libcuda.so.1', 'libcudnn.so.9'] });

    expect(explainNoHardware('cuda', bare)).toMatch(/No NVIDIA graphics card/);
    expect(explainNoHardware('cuda', { ...bare, cards: [nvidia] })).toBeUndefined();
    expect(explainNoHardware('webgpu', bare)).toBeUndefined();
  });

  test('missing libraries are named by what one installs', () => {
    const missingCudaLibraries = ['libcudart.so.12', 'libcublas.so.12', 'libcudnn.so.9'];
    const incomplete = machine({ cards: [nvidia], missingCudaLibraries });

    expect(furtherNeeds('cuda', incomplete)).toBe(
      ' It also needs CUDA 12 and cuDNN 9, which was not found here.',
    );
    expect(furtherNeeds('webgpu', incomplete)).toBe('');
    expect(explainFailure('cuda', incomplete, failed)).toMatch(/^Install CUDA 12 and cuDNN 9: .*libcudart/);
  });

  test('the library that the runtime names goes before a search of ours', () => {
    const text =
      'Failed to load library libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open shared object file: No such file or directory';

    const reason = explainFailure('cuda', machine({ cards: [nvidia] }), { how: 'failed', text });

    expect(reason).toBe('Install cuDNN 9: the library libcudnn.so.9 was not found.');
  });

  test('a driver that is too old goes before all libraries', () => {
    const old = machine({ cards: [{ ...nvidia, driver: 'nvidia 470.82.01' }] });

    expect(explainFailure('cuda', old, failed)).toMatch(/470\.82\.01\) is too old for CUDA 12; .* 525/);
  });
});

describe('names', () => {
  const drivers = [{ library: 'libvulkan_intel.so', software: false }];

  test('CUDA takes the NVIDIA card, WebGPU the card with the most memory', () => {
    const both = machine({ cards: [intel, nvidia], vulkan: { hasLoader: true, drivers, devices: null } });

    expect(describeAccelerator('cuda', both, undefined)).toMatchObject({
      name: 'NVIDIA GeForce RTX 4070',
      vendor: 'NVIDIA',
      memoryBytes: 12 * gibibyte,
      driver: 'nvidia 550.54.14',
      available: true,
    });
    expect(describeAccelerator('webgpu', both, undefined).name).toBe('NVIDIA GeForce RTX 4070');
    expect(describeAccelerator('dml', both, 'no').name).toMatch(/DirectML/);
  });

  test('what Vulkan lists goes before what is in the computer, with the memory that the system knows', () => {
    const devices = [{ vendor: 'Intel', name: 'Intel(R) Xe (TGL GT2)', driver: 'Intel open-source Mesa' }];
    const listed = machine({
      cards: [{ ...intel, memoryBytes: gibibyte }],
      vulkan: { hasLoader: true, drivers, devices },
    });

    expect(describeAccelerator('webgpu', listed, undefined)).toMatchObject({
      name: 'Intel(R) Xe (TGL GT2)',
      memoryBytes: gibibyte,
    });
  });

  test('a renderer without hardware is called one', () => {
    const software = [{ library: 'libvulkan_lvp.so', software: true }];
    const listed = [{ vendor: 'unknown maker', name: 'llvmpipe (LLVM 15)', software: true }];
    const bare = machine({ vulkan: { hasLoader: true, drivers: software, devices: null } });

    expect(describeAccelerator('webgpu', bare, undefined)).toMatchObject({
      name: 'llvmpipe (Mesa), a software renderer',
      software: true,
    });
    expect(
      describeAccelerator(
        'webgpu',
        { ...bare, vulkan: { hasLoader: true, drivers: software, devices: listed } },
        undefined,
      ),
    ).toMatchObject({ name: 'llvmpipe (LLVM 15)', software: true });
  });

  test('DirectML on Windows and Core ML on macOS name the card', () => {
    const windows = machine({ platform: 'win32', vulkan: null, cards: [nvidia] });
    const mac = machine({ platform: 'darwin', vulkan: null, cards: [{ vendor: 'Apple', name: 'Apple M2' }] });

    expect(describeAccelerator('dml', windows, undefined).name).toBe('NVIDIA GeForce RTX 4070');
    expect(describeAccelerator('webgpu', windows, undefined).name).toBe('NVIDIA GeForce RTX 4070');
    expect(describeAccelerator('coreml', mac, undefined).name).toBe('Apple M2');
    expect(explainFailure('dml', { ...windows, cards: [] }, failed)).toBe('No graphics card was found.');
  });
});
