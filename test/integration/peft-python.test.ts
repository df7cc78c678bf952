/**
 * Adapters exchanged with Hugging Face PEFT in Python, both ways, with timm's and transformers' model of the same
 * weights. Runs when ANNEAL_PYTHON names an interpreter with torch, timm, transformers, peft and safetensors; the part
 * with real weights also needs ../shared/models/vit-tiny-patch16-224. Without Python, peft-fixture.test.ts holds the
 * direction from Python to Anneal.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModelState } from '../../core/lora/model-state.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { exportPeftFolder, importPeftFolder } from '../../core/models/peft-import.ts';
import { openVitFolder } from '../../core/models/vit-folder.ts';
import { createRandom } from '../../core/shared/random.ts';
import { adaptedLogits, largestDifference } from '../fixtures/peft/adapted-logits.ts';

const python = process.env['ANNEAL_PYTHON'];
const script = join(import.meta.dirname, '../fixtures/peft/peft_models.py');
const classes = ['a', 'b', 'c'];
const bases = [
  { what: 'a small random ViT', dir: join(import.meta.dirname, '../fixtures/peft/small-vit') },
  { what: 'ViT-Tiny', dir: join(import.meta.dirname, '../../../shared/models/vit-tiny-patch16-224') },
];
const libraries = ['timm', 'transformers'] as const;
const timeoutMs = 120_000;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-peft-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function runPython(...args: string[]): Promise<number[][]> {
  const { stdout } = await promisify(execFile)(python!, ['-W', 'ignore', script, ...args]);
  return JSON.parse(stdout);
}

/** Factors and a head as large as those that peft_models.py draws; ranks and scales differ from layer to layer. */
function randomState(base: BaseModel): ModelState {
  const random = createRandom(11);
  const fill = (data: Float32Array) => {
    for (let i = 0; i < data.length; i++) data[i] = 0.1 * random.normal();
  };
  const state = initialState(base, {
    classes,
    targetModules: ['attn.q', 'attn.v', 'mlp.fc2'],
    excludeModules: ['blocks.0.attn.v'],
    r: 4,
    rankOf: (module) => (module.endsWith('mlp.fc2') ? 2 : module.includes('.1.') ? 3 : 4),
    scale: (_module, r) => 6 / Math.sqrt(r),
    seed: 1,
  });
  for (const { a, b } of state.lora.values()) {
    fill(a.data);
    fill(b.data);
  }
  for (const { data } of state.head.values()) fill(data);
  return state;
}

describe.skipIf(python === undefined)('adapters exchanged with PEFT in Python (needs ANNEAL_PYTHON)', () => {
  describe.each(bases)('on $what', ({ dir }) => {
    const open = () => openVitFolder(dir, { id: 'vit', licence: 'none' });

    it.skipIf(!existsSync(dir)).each(libraries)(
      'written by Anneal give the same logits in %s',
      async (library) => {
        const base = await open();
        const state = randomState(base);
        await exportPeftFolder(folder, state, base, { names: library });

        const theirs = await runPython('logits', dir, folder, library);

        expect(largestDifference(await adaptedLogits(base, state), theirs)).toBeLessThan(1e-4);
        const bare = await adaptedLogits(base, { ...state, lora: new Map() });
        expect(largestDifference(bare, theirs)).toBeGreaterThan(1e-2);
      },
      timeoutMs,
    );

    it.skipIf(!existsSync(dir)).each(libraries)(
      'written by %s give the same logits in Anneal',
      async (library) => {
        const base = await open();

        const theirs = await runPython('adapter', dir, folder, library);

        const { state } = await importPeftFolder(folder, base, { classes });
        expect(largestDifference(await adaptedLogits(base, state), theirs)).toBeLessThan(1e-4);
      },
      timeoutMs,
    );
  });
});
