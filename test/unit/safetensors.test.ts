import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeSafetensors,
  encodeSafetensors,
  parseSafetensors,
  safetensorsSizeBytes,
} from '../../core/lora/safetensors.ts';
import { encodeRawSafetensors } from '../../core/lora/safetensors-writer.ts';
import { AppError } from '../../core/shared/errors.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { randomTensor } from '../fixtures/random-state.ts';

/** A file with this header text and these values. */
function file(header: string | object, values = new Uint8Array(0)): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header), 'utf8');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, values]);
}

const f32 = (shape: number[], start: number, end: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [start, end],
});

describe('safetensors', () => {
  it('reads a file laid out by hand from the format description', () => {
    const values = Buffer.alloc(12);
    values.writeFloatLE(1.5, 0);
    values.writeFloatLE(-2, 4);
    values.writeFloatLE(3, 8);
    const bytes = file({ b: f32([], 8, 12), a: f32([2, 1], 0, 8), __metadata__: { format: 'pt' } }, values);

    const { tensors, metadata } = decodeSafetensors(bytes, 'hand.safetensors');

    expect([...tensors.keys()]).toEqual(['a', 'b']);
    expect(tensors.get('a')).toEqual(floatTensor([2, 1], Float32Array.of(1.5, -2)));
    expect(tensors.get('b')).toEqual(floatTensor([], Float32Array.of(3)));
    expect(metadata).toEqual({ format: 'pt' });
  });

  it('reads an empty file of no tensors and a header padded with spaces', () => {
    expect(decodeSafetensors(file('{}    '), 'x').tensors.size).toBe(0);
  });

  it('aligns its values to 8 bytes and begins with the header length', () => {
    const bytes = encodeSafetensors(new Map([['t', floatTensor([3])]]), { note: 'ü' });
    const headerBytes = new DataView(bytes.buffer).getBigUint64(0, true);
    expect(Number(headerBytes) % 8).toBe(0);
    expect(bytes.length).toBe(8 + Number(headerBytes) + 12);
  });

  it.each([
    ['F16', Buffer.from([0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x7c]), [1, -2, 2 ** -24, Infinity]],
    ['BF16', Buffer.from([0x80, 0x3f, 0x00, 0xc0, 0x20, 0x41, 0x80, 0xff]), [1, -2, 10, -Infinity]],
    ['F64', Buffer.from(Float64Array.of(0.5, -8).buffer), [0.5, -8]],
  ])('turns %s into float32', (dtype, values, expected) => {
    const bytes = file({ t: { dtype, shape: [expected.length], data_offsets: [0, values.length] } }, values);
    expect([...decodeSafetensors(bytes, 'x').tensors.get('t')!.data]).toEqual(expected);
  });

  it('does not depend on where in a larger buffer the file lies', () => {
    const bytes = encodeSafetensors(new Map([['t', floatTensor([2], Float32Array.of(4, 5))]]), {});
    const shifted = new Uint8Array(bytes.length + 3);
    shifted.set(bytes, 3);
    expect([...decodeSafetensors(shifted.subarray(3), 'x').tensors.get('t')!.data]).toEqual([4, 5]);
  });

  it('copies values, unless the bytes are handed over and lie as they can be read in place', () => {
    const bytes = new Uint8Array(
      encodeSafetensors(new Map([['t', floatTensor([2], Float32Array.of(4, 5))]]), {}),
    );
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    const read = (from: Uint8Array, handedOver: boolean) =>
      decodeSafetensors(from, 'x', { handedOver }).tensors.get('t')!.data;

    const [kept, moved] = [read(bytes, false), read(shifted.subarray(1), true)];
    const given = read(bytes, true);

    for (const data of [kept, moved, given]) expect([...data]).toEqual([4, 5]);
    expect(kept.buffer).not.toBe(bytes.buffer);
    expect(moved.buffer).not.toBe(shifted.buffer);
    expect(given.buffer).toBe(bytes.buffer);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['nothing', new Uint8Array(0), /at least 8 bytes/],
    ['a header longer than the file', Buffer.from([255, 0, 0, 0, 0, 0, 0, 0, 123]), /header claims 255/],
    ['an absurd header length', new Uint8Array(64).fill(255), /header claims/],
    ['a header that is not JSON', file('{"a":'), /not JSON/],
    ['a header that does not begin with a brace', file(' {}'), /not JSON/],
    ['a header that is not UTF-8', file('{}').fill(0xff, 9), /not JSON/],
    [
      'a repeated name',
      file('{"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"\\u0074":{}}'),
      /"t" occurs twice/,
    ],
    [
      'a repeated field',
      file('{"t":{"dtype":"F32","dtype":"F16","shape":[0],"data_offsets":[0,0]}}'),
      /"dtype" occurs twice/,
    ],
    ['a hole', file({ t: f32([1], 4, 8) }, new Uint8Array(8)), /tensor "t" leaves a hole/],
    ['an overlap', file({ s: f32([2], 0, 8), t: f32([2], 4, 12) }, new Uint8Array(12)), /"t" overlaps/],
    ['values that are missing', file({ t: f32([2], 0, 8) }, new Uint8Array(4)), /"t" ends at byte 8/],
    [
      'values left over',
      file({ t: f32([1], 0, 4) }, new Uint8Array(5)),
      /expected 4 bytes of values, found 5/,
    ],
    ['a shape that disagrees', file({ t: f32([3], 0, 8) }, new Uint8Array(8)), /takes 12 bytes, found 8/],
    ['a negative size', file({ t: f32([-1], 0, 4) }, new Uint8Array(4)), /tensor "t"/],
    ['offsets that run backwards', file({ t: f32([1], 4, 0) }, new Uint8Array(4)), /tensor "t"/],
    [
      'a shape beyond all memory',
      file({ t: f32([2 ** 40, 2 ** 40], 0, 4) }, new Uint8Array(4)),
      /tensor "t"/,
    ],
    [
      'a type that is no float',
      file({ t: { ...f32([1], 0, 4), dtype: 'I32' } }, new Uint8Array(4)),
      /type I32/,
    ],
    ['a field that is unknown', file({ t: { ...f32([1], 0, 4), more: 1 } }, new Uint8Array(4)), /tensor "t"/],
    ['metadata that is not text', file({ __metadata__: { a: 1 } }), /metadata/],
  ])('refuses %s', (_what, bytes, message) => {
    let thrown: unknown;
    try {
      decodeSafetensors(bytes, 'adapter.safetensors');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(AppError);
    expect(thrown).toMatchObject({ code: 'MODEL_FILE_INVALID', message: expect.stringMatching(message) });
    expect((thrown as AppError).message).toContain('adapter.safetensors');
  });

  it('refuses to write a name twice or the reserved one', () => {
    expect(() => encodeSafetensors(new Map([['__metadata__', floatTensor([1])]]), {})).toThrow(RangeError);
  });

  it('gives back what was written, for any names and shapes, in the size foretold', () => {
    const names = fc
      .uniqueArray(fc.string({ unit: 'grapheme' }), { maxLength: 6 })
      .filter((list) => !list.includes('__metadata__'));
    fc.assert(
      fc.property(names, fc.array(fc.nat(4), { maxLength: 4 }), fc.integer(), (list, dims, seed) => {
        const random = createRandom(seed);
        const tensors = new Map(list.map((name) => [name, randomTensor(dims, random)]));
        const metadata = { seed: String(seed), text: list.join('\n') };
        const bytes = encodeSafetensors(tensors, metadata);
        expect(decodeSafetensors(bytes, 'x')).toEqual({ tensors, metadata });
        const entries = [...tensors].map(([name, tensor]) => ({ name, dims: tensor.dims }));
        expect(safetensorsSizeBytes(entries, metadata)).toBe(bytes.length);
      }),
    );
  });

  it('meets every truncation and every flipped byte with MODEL_FILE_INVALID or a reading', () => {
    const random = createRandom(3);
    const tensors = new Map([
      ['lora_A', randomTensor([2, 3], random)],
      ['lora_B', randomTensor([4, 2], random)],
    ]);
    const good = encodeSafetensors(tensors, { format: 'pt' });
    const attempts: Uint8Array[] = [];
    for (let length = 0; length < good.length; length++) attempts.push(good.slice(0, length));
    for (let index = 0; index < good.length; index++) {
      for (const mask of [0x01, 0x20, 0x80, 0xff]) {
        const bytes = good.slice();
        bytes[index]! ^= mask;
        attempts.push(bytes);
      }
    }
    let refused = 0;
    for (const bytes of attempts) {
      try {
        decodeSafetensors(bytes, 'x');
      } catch (error) {
        expect(error).toMatchObject({ code: 'MODEL_FILE_INVALID' });
        refused++;
      }
    }
    // Every truncation at least; flips inside the values cannot be seen here (hashes are there for that).
    expect(refused).toBeGreaterThan(good.length);
  });

  it('meets arbitrary bytes with MODEL_FILE_INVALID', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.uint8Array({ maxLength: 40 }), (text, values) => {
        expect(() => decodeSafetensors(file(`{${text}`, values), 'x')).toThrow(AppError);
      }),
      {
        examples: [
          ['"a":'.repeat(200_000), new Uint8Array(0)],
          [`"a":${'['.repeat(200_000)}`, new Uint8Array(0)],
        ],
      },
    );
  });
});

describe('raw tensors', () => {
  it('of any written type come back in their order, in the size foretold', () => {
    const tensors = [
      { name: 'scales', dims: [1], bytes: new Uint8Array(4) },
      { name: 'b', dims: [3], dtype: 'I8', bytes: Uint8Array.of(1, 2, 3) },
      { name: 'a', dims: [2, 1], dtype: 'F16', bytes: Uint8Array.of(0, 0x3c, 0, 0xc0) },
    ] as const;

    const bytes = encodeRawSafetensors(tensors, { kind: 'x' });
    const file = parseSafetensors(bytes, 'raw');

    expect(bytes).toHaveLength(safetensorsSizeBytes(tensors, { kind: 'x' }));
    expect([...file.entries.values()].map(({ name, dtype }) => [name, dtype])).toEqual([
      ['scales', 'F32'],
      ['b', 'I8'],
      ['a', 'F16'],
    ]);
    expect([...file.bytesOf(file.entries.get('b')!)]).toEqual([1, 2, 3]);
    // 1 and -2 as binary16.
    const halves = encodeRawSafetensors(tensors.slice(2), {});
    expect([...decodeSafetensors(halves, 'halves').tensors.get('a')!.data]).toEqual([1, -2]);
  });

  it('whose bytes do not fill their shape are not written', () => {
    const tensor = { name: 'a', dims: [2], dtype: 'F16', bytes: new Uint8Array(3) } as const;
    expect(() => encodeRawSafetensors([tensor], {})).toThrow('"a" has 3 bytes, expected 4');
  });
});
