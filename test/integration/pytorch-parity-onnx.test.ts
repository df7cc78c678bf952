/**
 * A convolutional network with BatchNorm, PReLU, a residual block and depthwise convolutions, exported by PyTorch
 * as ONNX and read by Anneal, against PyTorch itself: with LoRA and with all weights trained. The batch is a last
 * one that is not full, and the classes are not equally common. See pytorch-parity.test.ts for what is compared.
 */
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { BaseModel } from '../../core/models/base-model.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import { halves } from '../fixtures/onnx-files.ts';
import { readFixture, trainAsFixture, worstDistances } from '../fixtures/pytorch/parity.ts';

const file = join(import.meta.dirname, '../fixtures/pytorch/small-cnn.onnx');

let base: BaseModel;
beforeAll(async () => {
  const options = { id: 'small-cnn', licence: 'Apache-2.0', ...halves, headGain: 1 };
  // With the names of the file, which the fixture has.
  base = await openOnnxModel(file, options, { identity: 1 });
});

describe('an ONNX file against PyTorch', () => {
  test('the file holds BatchNormalization and PRelu as nodes of their own', () => {
    const operators = base.buildGraph(2).nodes.map(({ op }) => op);

    expect(operators).toEqual(expect.arrayContaining(['BatchNormalization', 'PRelu', 'Conv', 'Gemm']));
  });

  test.each([
    ['LoRA on ungrouped convolutions and the linear layer', 'small-cnn'],
    ['all weights trained', 'small-cnn-full'],
  ])('%s', async (_title, name) => {
    const fixture = readFixture(name);

    const worst = worstDistances(await trainAsFixture(base, fixture), fixture);

    // PyTorch's own single precision: 3e-7, 7e-7, 8e-8, 1.2e-7, 3e-7.
    expect(worst['logits']).toBeLessThan(2e-6);
    expect(worst['gradient']).toBeLessThan(5e-6);
    expect(worst['losses']).toBeLessThan(1e-6);
    expect(worst['gradientNorms']).toBeLessThan(2e-6);
    expect(worst['final']).toBeLessThan(5e-6);
  });
});
