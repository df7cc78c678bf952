/**
 * Whole networks against PyTorch: logits, loss, every LoRA gradient and ten steps of AdamW with our schedule and
 * clipping, from references in double precision (test/fixtures/pytorch). Distances are relative to the norm of
 * each tensor. Beside each limit: how far PyTorch's own single precision is from the same references.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadFaceResnet128 } from '../../core/models/face-resnet-128.ts';
import { openVitFolder } from '../../core/models/vit-folder.ts';
import { readFixture, trainAsFixture, worstDistances } from '../fixtures/pytorch/parity.ts';

const fixtures = join(import.meta.dirname, '../fixtures/pytorch');
const vitFolder = join(import.meta.dirname, '../../../shared/models/vit-tiny-patch16-224');

describe('against PyTorch', () => {
  test('the references stay small', () => {
    const sizes = readdirSync(fixtures).map((name) => statSync(join(fixtures, name)).size);

    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(2e6);
  });

  test('face-resnet-128 with LoRA on every layer', async () => {
    const fixture = readFixture('face-resnet-128');
    const base = await loadFaceResnet128();

    const worst = worstDistances(await trainAsFixture(base, fixture), fixture);

    expect(fixture.case.modules).toEqual(base.presets['all']?.filter((module) => module !== 'conv32_down'));
    expect(worst['logits']).toBeLessThan(1e-5); // 6e-7
    // A rectifier whose input is zero within rounding passes its gradient on one side only.
    expect(worst['gradient']).toBeLessThan(1e-3); // 2.1e-4
    expect(worst['losses']).toBeLessThan(2e-4); // 3e-5
    expect(worst['gradientNorms']).toBeLessThan(1e-2); // 3.3e-3
    expect(worst['final']).toBeLessThan(5e-3); // 1.7e-3
  });

  test.skipIf(!existsSync(vitFolder))(
    'ViT-Tiny with its real weights and LoRA on every linear layer (skipped without ../shared/models)',
    async () => {
      const fixture = readFixture('vit-tiny');
      const base = await openVitFolder(vitFolder, { id: 'vit-tiny', licence: 'Apache-2.0' });

      const worst = worstDistances(await trainAsFixture(base, fixture), fixture);

      expect(fixture.case.modules).toHaveLength(72);
      expect(worst['logits']).toBeLessThan(1e-5); // 1.5e-6
      expect(worst['gradient']).toBeLessThan(1e-4); // 9.6e-6
      expect(worst['losses']).toBeLessThan(1e-5); // 1e-6
      expect(worst['gradientNorms']).toBeLessThan(1e-5); // 1.1e-6
      // Adam divides by the size of the gradient: where that is rounding alone, a step has any sign.
      expect(worst['final']).toBeLessThan(2e-3); // 4.3e-4
    },
  );
});
