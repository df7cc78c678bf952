/** Damaged and hostile ONNX files: one clear error that names file and part, never a crash, a hang or a flood of memory. */
import { readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import onnxProto, { type onnx } from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { inspectOnnxFile } from '../../core/models/onnx/inspect.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import { AppError } from '../../core/shared/errors.ts';
import {
  encodeModel,
  floats,
  halves,
  int64s,
  linearTail,
  type ModelSketch,
  type NodeSketch,
  sketchModel,
  temporaryFolder,
  waves,
  writeModel,
} from '../fixtures/onnx-files.ts';

const settings = { id: 'imported', licence: 'MIT', ...halves };
const fixture = (name: string) => path.join(import.meta.dirname, '../fixtures/onnx', `${name}.onnx`);
const convNode: NodeSketch = { op: 'Conv', in: ['input', 'w'], out: ['c'], name: 'first' };
const tail: NodeSketch[] = [
  { op: 'GlobalAveragePool', in: ['c'], out: ['g'] },
  { op: 'Flatten', in: ['g'], out: ['output'] },
];
const weight = () => floats('w', [4, 3, 3, 3], waves(108));
const sketch = (change: Partial<ModelSketch> = {}): onnx.IModelProto =>
  sketchModel({ nodes: [convNode, ...tail], initializers: [weight()], ...change });

async function failure(model: onnx.IModelProto | Uint8Array, extra: object = {}): Promise<AppError> {
  const result: unknown = await openOnnxModel(await writeModel(model), { ...settings, ...extra }).catch(
    (e) => e,
  );
  expect(result).toBeInstanceOf(AppError);
  return result as AppError;
}

describe('files that do not fit together', () => {
  const negative: onnx.ITensorProto = { ...weight(), dims: [4, -3, 3, 3] };
  const nan = floats('w', [4, 3, 3, 3], new Array<number>(108).fill(Number.NaN));
  const cases: Record<string, [onnx.IModelProto, RegExp]> = {
    'a shape that needs other bytes': [
      sketch({ initializers: [{ ...weight(), dims: [4, 3, 3, 4] }] }),
      /model\.onnx.*"w" of shape \[4, 3, 3, 4\].*needs 576 bytes, found 432/,
    ],
    'a negative size': [sketch({ initializers: [negative] }), /"w" has a negative size/],
    'a size beyond all memory': [
      sketch({ initializers: [{ ...weight(), dims: [2 ** 40, 2 ** 40] }] }),
      /"w" of shape .* is too large/,
    ],
    'weights that are not numbers': [sketch({ initializers: [nan] }), /"w" holds NaN/],
    'a type that cannot be read': [
      sketch({ initializers: [{ ...weight(), dataType: 8 }] }),
      /"w" has the type STRING/,
    ],
    'two initializers of one name': [
      sketch({ initializers: [weight(), weight()] }),
      /"w" is given to two initializers/,
    ],
    'two values of one name': [
      sketch({ nodes: [convNode, { ...convNode, name: 'twin' }, ...tail] }),
      /"c" is given to two values/,
    ],
    'a missing value': [sketch({ initializers: [] }), /"first" \(Conv\) reads "w", which nothing makes/],
    'a circle': [
      sketch({
        nodes: [convNode, { op: 'Add', in: ['c', 'b'], out: ['a'], name: 'ring' }]
          .concat([{ op: 'Relu', in: ['a'], out: ['b'], name: 'back' }])
          .concat([{ op: 'GlobalAveragePool', in: ['b'], out: ['output'], name: 'pool' }]),
      }),
      /"ring" \(Add\) depends on its own output/,
    ],
    'channels that do not fit': [
      sketch({ initializers: [floats('w', [4, 5, 3, 3], waves(180))] }),
      /"first" \(Conv\) does not fit/,
    ],
    'an attribute of the wrong type': [
      sketch({ nodes: [{ ...convNode, attributes: { strides: 'two' } }, ...tail] }),
      /"first" \(Conv\) has an attribute "strides" of the wrong type/,
    ],
    'an opset that is too old': [sketch({ opset: 6 }), /opset 7 to 24, found 6/],
    'an opset that is too new': [sketch({ opset: 25 }), /opset 7 to 24, found 25/],
    'two images': [
      sketch({
        inputs: ['input', 'second'],
        nodes: [{ op: 'Add', in: ['input', 'second'], out: ['s'] }, { ...convNode, in: ['s', 'w'] }, ...tail],
      }),
      /takes 2 inputs \("input", "second"\)/,
    ],
    'grey images': [sketch({ inputDims: ['batch', 1, 8, 8] }), /without 3 colour channels/],
    'images that are no squares': [sketch({ inputDims: ['batch', 3, 8, 9] }), /8 × 9 instead of squares/],
    'an output that is no embedding': [
      sketch({ nodes: [{ ...convNode, out: ['output'] }] }),
      /"output" has shape \[2, 4, 6, 6\] instead of \[batch, d\]/,
    ],
    'a constant of impossible size': [
      sketch({
        nodes: [
          { op: 'ConstantOfShape', in: ['huge'], out: ['h'], name: 'flood' },
          { op: 'Add', in: ['input', 'h'], out: ['i'] },
          { ...convNode, in: ['i', 'w'] },
          ...tail,
        ],
        initializers: [weight(), int64s('huge', [4], [65_536, 65_536, 65_536, 65_536])],
      }),
      /"flood" \(ConstantOfShape\) makes a constant of the impossible shape/,
    ],
    'a Reshape that loses values': [
      sketch({
        nodes: [convNode, tail[0]!, { op: 'Reshape', in: ['g', 'target'], out: ['output'], name: 'squash' }],
        initializers: [weight(), int64s('target', [2], [0, 3])],
      }),
      /"squash" \(Reshape\) cannot make \[0, 3\]/,
    ],
  };

  it.each(Object.keys(cases))('%s', async (name) => {
    const [model, message] = cases[name]!;
    const error = await failure(model);
    expect(error.code).toBe('MODEL_FILE_INVALID');
    expect(error.message).toMatch(message);
  });

  it('names all operators and nodes that are not supported, at once', async () => {
    const error = await failure(
      sketch({
        nodes: [
          convNode,
          { op: 'NonMaxSuppression', in: ['c'], out: ['d'], name: 'boxes' },
          { op: 'Relu', in: ['d'], out: ['e'] },
          { op: 'Attention', domain: 'com.example', in: ['e'], out: ['f'], name: 'custom' },
          { op: 'If', in: ['f'], out: ['output'], name: 'branch' },
        ],
      }),
    );
    expect(error.code).toBe('OPERATOR_UNSUPPORTED');
    for (const part of ['"boxes" (NonMaxSuppression)', '"custom" (com.example.Attention)']) {
      expect(error.message).toContain(part);
    }
  });

  it('refuses what ceil_mode cannot make exact', async () => {
    const attributes = { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1, count_include_pad: 1 };
    const nodes = [
      { ...convNode, out: ['d'] },
      { op: 'AveragePool', in: ['d'], out: ['c'], name: 'mean', attributes },
      ...tail,
    ];
    const error = await failure(sketch({ nodes }));
    expect(error).toMatchObject({
      code: 'OPERATOR_UNSUPPORTED',
      message: /"mean" \(AveragePool\) joins ceil_mode/,
    });
  });

  it('asks for a size that the file leaves open and refuses one that contradicts it', async () => {
    const open = sketch({ inputDims: ['batch', 3, 'h', 'w'] });
    expect(await failure(open)).toMatchObject({ code: 'CONFIG_INVALID', message: /"inputSize"/ });
    expect(await failure(sketch(), { inputSize: 9 })).toMatchObject({
      code: 'CONFIG_INVALID',
      message: /8 × 8/,
    });
    expect(await failure(sketch(), { deviation: [0, 1, 1] })).toMatchObject({ code: 'CONFIG_INVALID' });
    const base = await openOnnxModel(await writeModel(open), { ...settings, inputSize: 16 });
    expect(base.inputSize).toBe(16);
  });
});

describe('functions', () => {
  it('refuses one that calls itself', async () => {
    // FunctionProto: name 1, input 4, output 5, node 7, domain 10.
    const text = (number: number, value: string) =>
      Buffer.from([number * 8 + 2, value.length, ...Buffer.from(value)]);
    const node = Buffer.concat([text(1, 'x'), text(2, 'y'), text(4, 'loop'), text(7, 'own')]);
    const body = Buffer.concat([text(1, 'loop'), text(4, 'x'), text(5, 'y')]);
    const domain = text(10, 'own');
    const wrapped = Buffer.concat([body, Buffer.from([7 * 8 + 2, node.length]), node, domain]);
    const field = Buffer.concat([Buffer.from([0xca, 0x01, wrapped.length]), wrapped]);
    const nodes = [
      { ...convNode, out: ['d'] },
      { op: 'loop', domain: 'own', in: ['d'], out: ['c'] },
      ...tail,
    ];
    const error = await failure(Buffer.concat([encodeModel(sketch({ nodes })), field]));
    expect(error).toMatchObject({ code: 'MODEL_FILE_INVALID', message: /"loop" calls itself/ });
  });
});

describe('external data', () => {
  const outside = (entries: Record<string, string>): onnx.ITensorProto => ({
    name: 'w',
    dims: [4, 3, 3, 3],
    dataType: 1,
    dataLocation: 1,
    externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
  });

  it.each([
    '/etc/hostname',
    '../weights.bin',
    'a/../../weights.bin',
    'C:\\weights.bin',
    '..\\weights.bin',
    '',
    'a\0b',
  ])('refuses the location %j', async (location) => {
    const error = await failure(sketch({ initializers: [outside({ location })] }));
    expect(error.code).toBe('MODEL_FILE_INVALID');
    expect(error.message).toMatch(/"w" lies in another file, but its location is not a path inside/);
  });

  it('refuses links out of the folder, folders, missing and short files', async () => {
    const folder = await temporaryFolder();
    const secret = path.join(await temporaryFolder(), 'weights.bin');
    await writeFile(secret, new Uint8Array(432));
    await symlink(secret, path.join(folder, 'link.bin'));
    await symlink(path.dirname(secret), path.join(folder, 'linked'));
    await writeFile(path.join(folder, 'short.bin'), new Uint8Array(431));
    const file = path.join(folder, 'model.onnx');
    const attempt = async (entries: Record<string, string>): Promise<AppError> => {
      await writeFile(file, encodeModel(sketch({ initializers: [outside(entries)] })));
      return openOnnxModel(file, settings).catch((error) => error);
    };
    expect((await attempt({ location: 'link.bin' })).message).toMatch(/leads out of the folder/);
    expect((await attempt({ location: 'linked/weights.bin' })).message).toMatch(/leads out of the folder/);
    expect((await attempt({ location: 'missing.bin' })).message).toMatch(/cannot be opened/);
    expect((await attempt({ location: '.' })).message).toMatch(/is not a file|cannot be opened/);
    expect((await attempt({ location: 'short.bin' })).message).toMatch(
      /needs 432 bytes from 0 .* which has 431/,
    );
    expect((await attempt({ location: 'short.bin', length: '431' })).message).toMatch(/needs 432/);
    expect((await attempt({ location: 'short.bin', offset: '-4' })).message).toMatch(
      /offset is not a number/,
    );
    expect((await attempt({ location: 'short.bin', offset: '99999999999999' })).message).toMatch(
      /which has 431/,
    );
  });
});

describe('damaged bytes', () => {
  it('refuses files that are missing, empty, folders or no ONNX at all', async () => {
    const folder = await temporaryFolder();
    for (const file of [path.join(folder, 'missing.onnx'), folder]) {
      await expect(openOnnxModel(file, settings)).rejects.toMatchObject({ code: 'MODEL_FILE_INVALID' });
      await expect(inspectOnnxFile(file)).rejects.toMatchObject({ code: 'MODEL_FILE_INVALID' });
    }
    for (const bytes of [new Uint8Array(), Buffer.from('not a model'), new Uint8Array(64).fill(0xff)]) {
      expect((await failure(bytes)).code).toBe('MODEL_FILE_INVALID');
    }
  });

  it('does not follow subgraphs however deep', async () => {
    let nested = Buffer.alloc(0);
    // From the inside: AttributeProto field 6 is a graph, NodeProto field 5 an attribute, GraphProto field 1 a node.
    for (let depth = 0; depth < 3000; depth++) {
      const tag = [6, 5, 1][depth % 3]! * 8 + 2;
      nested = Buffer.concat([Buffer.from([tag]), varint(nested.length), nested]);
    }
    const error = await failure(Buffer.concat([Buffer.from([7 * 8 + 2]), varint(nested.length), nested]));
    expect(error).toMatchObject({ code: 'MODEL_FILE_INVALID', message: /names no operator/ });
  });

  const small = readFile(fixture('groupnorm-11'));
  const other = readFile(fixture('vit-12-batch1'));

  async function survives(bytes: Uint8Array): Promise<void> {
    const file = await writeModel(bytes);
    for (const attempt of [() => openOnnxModel(file, settings), () => inspectOnnxFile(file)]) {
      const result: unknown = await attempt().catch((error: unknown) => error);
      if (!(result instanceof Error)) continue;
      expect(result).toBeInstanceOf(AppError);
      expect(['MODEL_FILE_INVALID', 'OPERATOR_UNSUPPORTED', 'CONFIG_INVALID']).toContain(
        (result as AppError).code,
      );
    }
  }

  it('cut off anywhere', async () => {
    const bytes = await small;
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), (length) => survives(bytes.subarray(0, length))),
      { numRuns: 120 },
    );
  });

  it('flipped bits', async () => {
    const files = [await small, await other];
    const flips = fc.array(fc.tuple(fc.nat(), fc.nat(7)), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(fc.nat(1), flips, async (which, places) => {
        const bytes = Buffer.from(files[which]!);
        for (const [place, bit] of places) bytes[place % bytes.length]! ^= 1 << bit;
        await survives(bytes);
      }),
      { numRuns: 200 },
    );
  });

  it('bytes overwritten in the part that describes nodes', async () => {
    const bytes = await small;
    await fc.assert(
      fc.asyncProperty(fc.nat(3000), fc.uint8Array({ minLength: 1, maxLength: 12 }), async (place, patch) => {
        const changed = Buffer.from(bytes);
        changed.set(patch, Math.min(place, bytes.length - patch.length));
        await survives(changed);
      }),
      { numRuns: 200 },
    );
  });

  it('nodes whose integers, inputs or operators are exchanged', async () => {
    const { ModelProto } = onnxProto.onnx;
    const original = await other;
    const operators = [
      'Reshape',
      'Slice',
      'Concat',
      'Gather',
      'Split',
      'Expand',
      'MatMul',
      'Conv',
      'MaxPool',
      'Shape',
    ];
    const change = fc.record({
      node: fc.nat(),
      kind: fc.constantFrom('op', 'input', 'integer'),
      pick: fc.nat(),
      value: fc.oneof(fc.integer({ min: -3, max: 40 }), fc.constantFrom(-(2 ** 40), 2 ** 31, 2 ** 52)),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
        const model = ModelProto.decode(original);
        const nodes = model.graph!.node!;
        for (const { node, kind, pick, value } of changes) {
          const chosen = nodes[node % nodes.length]!;
          if (kind === 'op') chosen.opType = operators[pick % operators.length]!;
          else if (kind === 'input' && chosen.input!.length > 0) {
            const source = nodes[pick % nodes.length]!.output![0]!;
            chosen.input![pick % chosen.input!.length] = source;
          } else {
            const attribute = chosen.attribute?.[0];
            if (attribute?.ints && attribute.ints.length > 0)
              attribute.ints[pick % attribute.ints.length] = value;
            else if (attribute) attribute.i = value;
          }
        }
        await survives(encodeModel(model));
      }),
      { numRuns: 150 },
    );
  });
});

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest = Math.floor(rest / 128);
  }
  return Buffer.from([...bytes, rest]);
}

describe('layers', () => {
  it('names layers after their own biases, also where equal ones are stored once', async () => {
    const zeros = floats('a.bias', [4], [0, 0, 0, 0]);
    const matrices = ['onnx::MatMul_1', 'onnx::MatMul_2'].map((name, i) =>
      floats(name, [4, 4], waves(16, 0.3 + i)),
    );
    const nodes: NodeSketch[] = [
      { ...convNode, out: ['d'] },
      { op: 'GlobalAveragePool', in: ['d'], out: ['g'] },
      { op: 'Flatten', in: ['g'], out: ['f'] },
      { op: 'Identity', in: ['a.bias'], out: ['b.bias'] },
      { op: 'MatMul', in: ['f', 'onnx::MatMul_1'], out: ['m'] },
      { op: 'Add', in: ['m', 'a.bias'], out: ['n'] },
      { op: 'MatMul', in: ['n', 'onnx::MatMul_2'], out: ['o'] },
      { op: 'Add', in: ['b.bias', 'o'], out: ['output'] },
    ];
    const base = await openOnnxModel(
      await writeModel(sketch({ nodes, initializers: [weight(), zeros, ...matrices] })),
      settings,
    );
    expect(base.layers.map(({ peftModule }) => peftModule)).toEqual(['w', 'a', 'b']);
    const weights = ['conv_0.weight', 'linear_1.weight', 'linear_1.bias', 'linear_2.weight', 'linear_2.bias'];
    expect([...base.weights.keys()]).toEqual(weights);
  });

  it('refuses a network without constant weights', async () => {
    const nodes = [{ op: 'GlobalAveragePool', in: ['input'], out: ['g'] }, tail[1]!];
    expect((await failure(sketch({ nodes, initializers: [] }))).message).toMatch(
      /no layer with constant weights/,
    );
    const { node, weight: matrix } = linearTail('f', 3);
    const flat = { op: 'Flatten', in: ['g'], out: ['f'] };
    const base = await openOnnxModel(
      await writeModel(sketch({ nodes: [nodes[0]!, flat, node], initializers: [matrix] })),
      settings,
    );
    expect(base.presets).toEqual({ default: ['linear_0'], all: ['linear_0'] });
  });
});
