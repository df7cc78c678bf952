/** Reads a safetensors file from disk, tensor by tensor, so that a large model is never held twice. */
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { elementCount, type FloatTensor } from '../shared/tensor.ts';
import {
  fillFloat32,
  headerEnd,
  invalid,
  lengthBytes,
  parseHeader,
  requireFinite,
  requireFloat,
  type SafetensorsEntry,
} from './safetensors.ts';

/** Values of other types than float32 are converted piece by piece; a multiple of 8. */
const pieceBytes = 4 * 2 ** 20;

export interface SafetensorsReader extends AsyncDisposable {
  /** By name, in the order of their offsets; of any type that the format knows. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Reads one tensor into memory of its own; F16, BF16 and F64 become float32.
   * @throws AppError MODEL_FILE_INVALID when there is no such tensor, it is of no float type, or (with `finite`) it
   *   holds NaN or infinity
   */
  read(tensor: string): Promise<FloatTensor>;
  close(): Promise<void>;
}

/**
 * Reads and checks the header; `await using` closes the file.
 * @param options `finite`: NaN and infinity are refused; `name`: how errors call the file, else its name without folder
 * @throws AppError MODEL_FILE_INVALID
 */
export async function openSafetensors(
  file: string,
  options: { finite?: boolean; name?: string } = {},
): Promise<SafetensorsReader> {
  const name = options.name ?? basename(file);
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (cause) {
    throw invalid(name, 'it cannot be opened', cause);
  }
  try {
    const status = await handle.stat();
    if (!status.isFile()) throw invalid(name, 'expected a plain file');
    const start = new Uint8Array(Math.min(lengthBytes, status.size));
    await readFully(handle, start, 0, name);
    const valuesStart = headerEnd(start, status.size, name);
    const header = new Uint8Array(valuesStart - lengthBytes);
    await readFully(handle, header, lengthBytes, name);
    const { entries, metadata } = parseHeader(header, status.size - valuesStart, name);
    const byName = new Map(entries.map((entry) => [entry.name, entry]));
    const read = async (tensor: string): Promise<FloatTensor> => {
      const entry = byName.get(tensor);
      if (entry === undefined) throw invalid(name, `tensor "${tensor}" is missing`);
      const loaded = await readTensor(handle, entry, valuesStart, name);
      if (options.finite === true) requireFinite(loaded.data, tensor, name);
      return loaded;
    };
    const close = () => handle.close();
    return { entries: byName, metadata, read, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function readTensor(
  handle: FileHandle,
  entry: SafetensorsEntry,
  valuesStart: number,
  name: string,
): Promise<FloatTensor> {
  const dtype = requireFloat(entry, name);
  const data = new Float32Array(elementCount(entry.dims));
  const position = valuesStart + entry.start;
  if (dtype === 'F32') {
    await readFully(handle, new Uint8Array(data.buffer), position, name);
    return { dtype: 'float32', dims: entry.dims, data };
  }
  const sizeBytes = entry.end - entry.start;
  const valueBytes = data.length === 0 ? 1 : sizeBytes / data.length;
  const piece = new Uint8Array(Math.min(pieceBytes, sizeBytes));
  for (let done = 0; done < sizeBytes; done += piece.length) {
    const raw = piece.subarray(0, Math.min(piece.length, sizeBytes - done));
    await readFully(handle, raw, position + done, name);
    fillFloat32(data, done / valueBytes, raw, dtype);
  }
  return { dtype: 'float32', dims: entry.dims, data };
}

/** One read call takes at most 2 GB and may give less than was asked for. */
async function readFully(
  handle: FileHandle,
  target: Uint8Array,
  position: number,
  name: string,
): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const length = Math.min(target.length - done, 2 ** 30);
    const { bytesRead } = await handle.read(target, done, length, position + done);
    if (bytesRead === 0) throw invalid(name, 'it became shorter while it was being read');
    done += bytesRead;
  }
}
