import { appendFileSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeSafetensors, encodeSafetensors, headerEnd, parseHeader } from '../../core/lora/safetensors.ts';
import { openSafetensors } from '../../core/lora/safetensors-file.ts';
import { AppError } from '../../core/shared/errors.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { randomTensor } from '../fixtures/random-state.ts';
import { temporaryFolder } from '../fixtures/store.ts';

/** A file with this header and these values. */
function fileOf(header: object, values: Uint8Array): Buffer {
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, values]);
}

function write(dir: string, bytes: Uint8Array): string {
  const file = path.join(dir, 'weights.safetensors');
  writeFileSync(file, bytes);
  return file;
}

describe('a safetensors file on disk', () => {
  it('gives each tensor as the whole file in memory does', async () => {
    using folder = temporaryFolder();
    const random = createRandom(1);
    const tensors = new Map([
      ['first', randomTensor([3, 5], random)],
      ['scalar', randomTensor([], random)],
      ['empty', floatTensor([0, 4])],
    ]);
    const bytes = encodeSafetensors(tensors, { format: 'pt' });

    await using reader = await openSafetensors(write(folder.dir, bytes));

    expect([...reader.entries.keys()]).toEqual(['first', 'scalar', 'empty']);
    expect(reader.metadata).toEqual({ format: 'pt' });
    for (const [name, tensor] of tensors) expect(await reader.read(name)).toEqual(tensor);
  });

  it.each([
    ['F16', 2, [0x00, 0x3c], 1],
    ['BF16', 2, [0x20, 0x41], 10],
    ['F64', 8, [0, 0, 0, 0, 0, 0, 0xe0, 0x3f], 0.5],
  ])('turns %s into float32 across the pieces that it is read in', async (dtype, valueBytes, one, value) => {
    using folder = temporaryFolder();
    // A little more than two pieces, and not a whole number of them.
    const count = Math.floor((9 * 2 ** 20) / valueBytes) + 3;
    const values = Buffer.alloc(count * valueBytes, Buffer.from(one));
    const header = { t: { dtype, shape: [count], data_offsets: [0, values.length] } };

    await using reader = await openSafetensors(write(folder.dir, fileOf(header, values)));
    const { data } = await reader.read('t');

    expect(data).toHaveLength(count);
    expect(data.findIndex((each) => each !== value)).toBe(-1);
  });

  it('lets types stand that are not read, and refuses to read them', async () => {
    using folder = temporaryFolder();
    const header = {
      ids: { dtype: 'I64', shape: [1], data_offsets: [0, 8] },
      t: { dtype: 'F32', shape: [1], data_offsets: [8, 12] },
    };
    await using reader = await openSafetensors(write(folder.dir, fileOf(header, Buffer.alloc(12))));

    expect((await reader.read('t')).data).toEqual(Float32Array.of(0));
    await expect(reader.read('ids')).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
      message: expect.stringMatching(/weights\.safetensors.*"ids" has type I64: expected F32/),
    });
    await expect(reader.read('ghost')).rejects.toThrow(/"ghost" is missing/);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'refuses %d when asked to',
    async (value) => {
      using folder = temporaryFolder();
      const bytes = encodeSafetensors(new Map([['t', floatTensor([3], Float32Array.of(1, 2, value))]]), {});
      const file = write(folder.dir, bytes);

      await using lenient = await openSafetensors(file);
      await using strict = await openSafetensors(file, { finite: true });

      expect((await lenient.read('t')).data[2]).toBe(value);
      await expect(strict.read('t')).rejects.toThrow(/tensor "t" holds .* at place 2: expected finite/);
      expect(() => decodeSafetensors(bytes, 'x', { finite: true })).toThrow(/at place 2/);
    },
  );

  it('is refused when it is missing, a folder, or changes while it is read', async () => {
    using folder = temporaryFolder();
    mkdirSync(path.join(folder.dir, 'sub'));
    const bytes = encodeSafetensors(new Map([['t', floatTensor([1000])]]), {});
    const file = write(folder.dir, bytes);
    const code = 'MODEL_FILE_INVALID';

    await expect(openSafetensors(path.join(folder.dir, 'none'))).rejects.toMatchObject({ code });
    await expect(openSafetensors(path.join(folder.dir, 'sub'))).rejects.toMatchObject({ code });
    await using reader = await openSafetensors(file);
    truncateSync(file, bytes.length - 1);
    await expect(reader.read('t')).rejects.toThrow(/became shorter/);
    appendFileSync(file, 'xx');
    await expect(openSafetensors(file)).rejects.toThrow(/expected 4000 bytes of values, found 4001/);
  });

  it('meets truncations and flipped bytes exactly as the whole file in memory does', async () => {
    using folder = temporaryFolder();
    const random = createRandom(2);
    const good = encodeSafetensors(
      new Map([
        ['a', randomTensor([2, 3], random)],
        ['b', randomTensor([4], random)],
      ]),
      {},
    );

    await fc.assert(
      fc.asyncProperty(
        fc.nat(good.length),
        fc.nat(good.length - 1),
        fc.integer({ min: 0, max: 255 }),
        async (length, place, mask) => {
          const bytes = good.slice(0, Math.max(length, place + 1));
          bytes[place]! ^= mask;
          const file = write(folder.dir, bytes);
          const outcome = async (read: () => unknown) => {
            try {
              return await read();
            } catch (error) {
              expect(error).toBeInstanceOf(AppError);
              return (error as AppError).message;
            }
          };

          const fromDisk = await outcome(async () => {
            await using reader = await openSafetensors(file);
            const entries = [];
            for (const name of reader.entries.keys()) entries.push([name, await reader.read(name)] as const);
            return new Map(entries);
          });
          const inMemory = await outcome(() => decodeSafetensors(bytes, 'weights.safetensors').tensors);

          expect(fromDisk).toEqual(inMemory);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('never claims more than it holds, whatever its header says', () => {
    const size = fc.oneof(fc.nat(40), fc.maxSafeInteger(), fc.double());
    const entry = fc.record({
      dtype: fc.constantFrom(
        'F32',
        'F16',
        'BF16',
        'F64',
        'I64',
        'BOOL',
        'F8_E4M3',
        'F4',
        '__proto__',
        'constructor',
      ),
      shape: fc.array(size, { maxLength: 4 }),
      data_offsets: fc.array(size, { minLength: 1, maxLength: 3 }),
    });
    const header = fc.dictionary(
      fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', 'a')),
      entry,
      { maxKeys: 4 },
    );

    fc.assert(
      fc.property(header, fc.uint8Array({ maxLength: 64 }), (fields, values) => {
        const bytes = fileOf(fields, values);
        try {
          const start = headerEnd(bytes, bytes.length, 'x');
          const { entries } = parseHeader(bytes.subarray(8, start), values.length, 'x');
          // What was accepted covers the values without a hole.
          expect(entries.reduce((sum, { start: from, end }) => sum + end - from, 0)).toBe(values.length);
        } catch (error) {
          expect(error).toMatchObject({ code: 'MODEL_FILE_INVALID' });
          expect((error as AppError).message.length).toBeLessThan(1000);
        }
      }),
      { numRuns: 500 },
    );
  });
});
