/**
 * Weights that lie beside the ONNX file.
 * Source: https://onnx.ai/onnx/repo-docs/ExternalData.html
 */
import { constants, type FileHandle, open, realpath } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import type { FileTensor } from './onnx-file.ts';
import { invalidFile } from './read.ts';
import { rawByteCount, tensorLabel } from './tensors.ts';

/** Reads ranges of files inside one folder; close it after use. */
export interface ExternalData {
  /** The bytes of a tensor that has `external`. @throws AppError MODEL_FILE_INVALID */
  read(tensor: FileTensor): Promise<Uint8Array>;
  close(): Promise<void>;
}

interface Range {
  readonly location: string;
  readonly offset: number;
  readonly length: number;
}

/** @param file the ONNX file; locations are relative to its folder and must stay inside it */
export function openExternalData(file: string, label: string): ExternalData {
  const folder = path.dirname(file);
  const handles = new Map<string, Promise<{ handle: FileHandle; sizeBytes: number }>>();
  const bytesRead = new Map<string, number>();
  const opened = (location: string, tensor: FileTensor) => {
    const known = handles.get(location) ?? openInside(folder, location, tensor, label);
    handles.set(location, known);
    return known;
  };
  return {
    async read(tensor) {
      const range = rangeOf(tensor, label);
      const { handle, sizeBytes } = await opened(range.location, tensor);
      if (range.offset + range.length > sizeBytes) {
        throw invalidFile(
          label,
          `${tensorLabel(tensor)} needs ${plural(range.length, 'byte')} from ${range.offset} of its data file "${range.location}", ` +
            `which has ${sizeBytes}`,
        );
      }
      const total = (bytesRead.get(range.location) ?? 0) + range.length;
      // Two names may share their bytes, but a small file must not fill the memory by being read again and again.
      if (total > 2 * sizeBytes) throw invalidFile(label, `its tensors overlap in "${range.location}"`);
      bytesRead.set(range.location, total);
      return readRange(handle, range, tensor, label);
    },
    async close() {
      const results = await Promise.allSettled(handles.values());
      for (const result of results) if (result.status === 'fulfilled') await result.value.handle.close();
    },
  };
}

/** Location of a tensor's data file, checked as text only. @throws AppError MODEL_FILE_INVALID */
export function externalLocation(tensor: FileTensor, label: string): string {
  return rangeOf(tensor, label).location;
}

function rangeOf(tensor: FileTensor, label: string): Range {
  const wrong = (what: string) =>
    invalidFile(label, `${tensorLabel(tensor)} lies in another file, but ${what}`);
  const location = (tensor.external?.get('location') ?? '').replaceAll('\\', '/');
  const parts = location.split('/');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a file name never needs one
  const unsafe = location === '' || path.win32.isAbsolute(location) || /[\0-\x1f:]/.test(location);
  if (unsafe || parts.includes('..'))
    throw wrong('its location is not a path inside the folder of the model');
  const number = (key: string, fallback: number) => {
    const text = tensor.external?.get(key) ?? '';
    if (text === '') return fallback;
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isNaN(value)) throw wrong(`its ${key} is not a number`);
    return value;
  };
  const wanted = rawByteCount(tensor, label);
  const length = number('length', wanted);
  if (length !== wanted) {
    throw wrong(
      `its length is ${plural(length, 'byte')} where shape [${tensor.dims.join(', ')}] needs ${wanted}`,
    );
  }
  return { location, offset: number('offset', 0), length };
}

/** Symbolic links may not lead out of the folder, and only plain files are read. */
async function openInside(
  folder: string,
  location: string,
  tensor: FileTensor,
  label: string,
): Promise<{ handle: FileHandle; sizeBytes: number }> {
  const wrong = (what: string, cause?: unknown) =>
    invalidFile(label, `the data file "${location}" of ${tensorLabel(tensor)} ${what}`, {
      action: 'Put the data files of the model beside it, as they were written, and import it again.',
      cause,
    });
  let handle: FileHandle | undefined;
  try {
    const root = await realpath(folder);
    const target = await realpath(path.join(folder, location));
    const inside = path.relative(root, target);
    if (inside.startsWith('..') || path.isAbsolute(inside))
      throw wrong('leads out of the folder of the model');
    // A pipe would block for ever; without blocking it is opened and refused.
    handle = await open(target, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const status = await handle.stat();
    if (!status.isFile()) throw wrong('is not a file');
    return { handle, sizeBytes: status.size };
  } catch (cause) {
    await handle?.close();
    if (cause instanceof AppError) throw cause;
    throw wrong('cannot be opened', cause);
  }
}

async function readRange(
  handle: FileHandle,
  { location, offset, length }: Range,
  tensor: FileTensor,
  label: string,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    // Node reads at most 2 GiB at once.
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, 2 ** 30), offset + done);
    if (bytesRead === 0) {
      throw invalidFile(label, `the data file "${location}" of ${tensorLabel(tensor)} became shorter`);
    }
    done += bytesRead;
  }
  return bytes;
}
