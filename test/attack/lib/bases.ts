/** Every base model that a reconstruction is tried on: those that an installation brings, and imported ones of MobileFaceNet's kind. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { SitePolicy } from '../../../core/config/site-policy.ts';
import type { BaseModel } from '../../../core/models/base-model.ts';
import { createCatalogue } from '../../../core/models/catalogue.ts';
import { randomMobileFaceNet } from '../../fixtures/mobile-face-net.ts';
import { writeModel } from '../../fixtures/onnx-files.ts';
import type { Victim } from './victim.ts';

export interface AttackedBase {
  readonly id: string;
  /** At the site, from where the coordinator has it, too: both hold the same network. */
  install(victim: Victim): Promise<BaseModel>;
  /** Least distance of a class's update to any of its people, beside that of the class mean. */
  readonly nearest: number;
  /** What its site has to allow beside the default policy: nobody has tested an imported base for leaks here. */
  readonly allowed: Partial<SitePolicy>;
}

const realMobileFaceNet = fileURLToPath(
  new URL('../../../../shared/models/onnx/mobilefacenet-112.onnx', import.meta.url),
);

const imported = (id: string, nearest: number, file: () => Promise<string>): AttackedBase => ({
  nearest,
  id,
  async install(victim) {
    await victim.importBase(await file(), id);
    return createCatalogue(`${victim.dataFolder}/models`).load(id);
  },
  allowed: { allowLeakyBases: true },
});

/** The one from ../shared only where that is. */
export async function attackedBases(): Promise<AttackedBase[]> {
  const fresh = createCatalogue('/nonexistent');
  const builtIn = (await fresh.list()).map(
    ({ id }): AttackedBase => ({ id, install: () => fresh.load(id), nearest: 0.8, allowed: {} }),
  );
  return [
    ...builtIn,
    // Its embeddings are five times as long for some faces as for others, which stand out: measured 0.69.
    imported('random-mobilefacenet', 0.6, () => writeModel(randomMobileFaceNet({ seed: 3 }))),
    ...(existsSync(realMobileFaceNet) ? [imported('mobilefacenet', 0.8, async () => realMobileFaceNet)] : []),
  ];
}
