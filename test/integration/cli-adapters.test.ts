/** `anneal adapters` as a process: PEFT folders in and out, merged weights, an ONNX file, and what goes wrong. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeSafetensors } from '../../core/lora/safetensors.ts';
import { encodeModelState } from '../../core/lora/state-file.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { type CommandLine, openCommandLine } from '../fixtures/command-line.ts';

let line: CommandLine;
beforeAll(async () => {
  line = openCommandLine();
  const base = await loadBaseModel('face-resnet-128');
  const settings = { classes: ['x', 'y'], targetModules: 'level-256', r: 4, scale: 2, seed: 1 };
  await writeFile(join(line.folder, 'adapter.safetensors'), encodeModelState(initialState(base, settings)));
}, 30_000);
afterAll(async () => {
  await line[Symbol.asyncDispose]();
});

describe('anneal adapters', () => {
  it('exports PEFT files and imports them to the very same adapter file', async () => {
    const written = await line.anneal('data', 'adapters', 'export', 'adapter.safetensors', 'peft', '--json');
    expect(JSON.parse(written.stdout)).toMatchObject({ format: 'peft' });
    expect((await readdir(join(line.folder, 'peft'))).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
    ]);

    const args = [
      'adapters',
      'import',
      'peft',
      '--base',
      'face-resnet-128',
      '--out',
      'back.safetensors',
      '--json',
    ];
    const read = await line.anneal('data', ...args);

    expect(JSON.parse(read.stdout)).toMatchObject({
      base: 'face-resnet-128',
      ranks: [4],
      classes: ['x', 'y'],
      hasHead: true,
    });
    const [first, second] = await Promise.all(
      ['adapter', 'back'].map((name) => readFile(join(line.folder, `${name}.safetensors`))),
    );
    expect(second!.equals(first!)).toBe(true);
  }, 60_000);

  it('writes merged weights with the head', async () => {
    const { code } = await line.anneal(
      'data',
      'adapters',
      'merge',
      'adapter.safetensors',
      'merged.safetensors',
    );
    expect(code).toBe(0);
    const { tensors, metadata } = decodeSafetensors(
      await readFile(join(line.folder, 'merged.safetensors')),
      'merged',
    );
    const base = await loadBaseModel('face-resnet-128');
    expect([...tensors.keys()].sort()).toEqual([...base.weights.keys(), 'head.weight', 'head.bias'].sort());
    expect(metadata['classes']).toBe('["x","y"]');
  }, 60_000);

  it('writes one ONNX file', async () => {
    const args = ['adapters', 'export', 'adapter.safetensors', 'network.onnx', '--format', 'onnx'];
    expect(await line.anneal('data', ...args)).toMatchObject({ code: 0 });
    expect((await readFile(join(line.folder, 'network.onnx'))).length).toBeGreaterThan(20_000_000);
  }, 60_000);

  it.each<[string, string[], string, RegExp]>([
    ['an unknown hash', ['export', 'ab'.repeat(32), 'out'], 'NOT_FOUND', /not in the data folder/],
    ['no such file', ['export', 'nowhere', 'out'], 'MODEL_FILE_INVALID', /nowhere cannot be read/],
    [
      'names of another network',
      ['export', 'adapter.safetensors', 'out', '--names', 'timm'],
      'CONFIG_INVALID',
      /no timm names/,
    ],
    [
      'a folder that is no adapter',
      ['import', '.', '--base', 'face-resnet-128', '--out', 'x'],
      'MODEL_FILE_INVALID',
      /adapter_config.json/,
    ],
    [
      'an unknown base',
      ['import', '.', '--base', 'nothing', '--out', 'x'],
      'MODEL_UNKNOWN',
      /no base model "nothing"/,
    ],
  ])(
    'says what is wrong: %s',
    async (_what, args, code, message) => {
      const outcome = await line.anneal('data', 'adapters', ...args, '--json');
      expect(outcome.code).toBe(1);
      expect(JSON.parse(outcome.stdout).error).toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
    },
    60_000,
  );
});
