/** A graphics processor as the operating system names it. */

export interface GraphicsCard {
  /** For instance `NVIDIA`, `AMD`, `Intel`, `Apple`. */
  vendor: string;
  name: string;
  /** Its own memory; absent when it shares the computer's or the system does not tell. */
  memoryBytes?: number;
  /** Driver with its version where known, for instance `nvidia 550.54.14` or `amdgpu`. */
  driver?: string;
  /** It shares the computer's memory. */
  integrated?: boolean;
  /** A program that draws on the processor, such as SwiftShader or llvmpipe: no hardware at all. */
  software?: boolean;
}

/** By PCI vendor number. */
export const pciVendors: Readonly<Record<number, string>> = {
  4098: 'AMD',
  4318: 'NVIDIA',
  4203: 'Apple',
  5045: 'Arm',
  6880: 'Google',
  20803: 'Qualcomm',
  32902: 'Intel',
};

/** Names of renderers that need no graphics hardware. */
const softwareRenderers = /swiftshader|llvmpipe|lavapipe|libvulkan_lvp|\blvp_|microsoft basic render|warp/i;

export const isSoftwareRenderer = (name: string): boolean => softwareRenderers.test(name);

/** `NVIDIA Corporation`, `Advanced Micro Devices, Inc.` and the like as people say it. */
export function shortVendor(name: string): string {
  if (/nvidia/i.test(name)) return 'NVIDIA';
  if (/advanced micro devices|\bamd\b|\bati\b|radeon/i.test(name)) return 'AMD';
  if (/intel/i.test(name)) return 'Intel';
  if (/apple/i.test(name)) return 'Apple';
  if (/qualcomm/i.test(name)) return 'Qualcomm';
  return name.replace(/,? (inc\.?|corporation|corp\.?|ltd\.?)$/i, '').trim();
}
