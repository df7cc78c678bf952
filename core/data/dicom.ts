/**
 * Photographs in DICOM files: VL Photographic Image and Secondary Capture, uncompressed or with a JPEG inside (DICOM
 * PS3.3 A.32.4 and A.8, PS3.5 A). What is not a photograph is refused by name. Only pixels leave this file: names and
 * dates in the header are never read.
 */
import { inflateRawSync } from 'node:zlib';
import type * as DicomParser from 'dicom-parser';
import { markAsRgb, readJpegCoding } from './jpeg-header.ts';
import { optionalPackage } from './optional-package.ts';
import { checkSize, DamagedImage, type RawImage, type ReadingNotes, UnsupportedImage } from './raw-image.ts';

const storage = '1.2.840.10008.5.1.4.1.1.';
const photographClasses = new Set([
  `${storage}77.1.4`, // VL Photographic Image
  `${storage}7`, // Secondary Capture, and its multi-frame kinds
  `${storage}7.2`,
  `${storage}7.3`,
  `${storage}7.4`,
]);
/** External-camera photography, other, and what screens and scanners write; a class may be right and this still say CT. */
const photographModalities = new Set(['', 'XC', 'OT', 'SC', 'DOC', 'DMS']);

const syntax = '1.2.840.10008.1.2';
const littleEndian = new Set([syntax, `${syntax}.1`, `${syntax}.1.99`]);
const bigEndian = `${syntax}.2`;
const jpegInside = new Set([`${syntax}.4.50`, `${syntax}.4.51`]);
const losslessInside = new Set([`${syntax}.4.57`, `${syntax}.4.70`]);
const otherSyntaxes: [RegExp, string][] = [
  [/^4\.8[01]$/, 'JPEG-LS'],
  [/^4\.9[0-3]$/, 'JPEG 2000'],
  [/^4\.20[1-3]$/, 'high-throughput JPEG 2000'],
  [/^4\.11[0-2]$/, 'JPEG XL'],
  [/^4\.10\d/, 'video'],
  [/^5$/, 'run-length coding'],
];

export interface DicomImage {
  /** Unpacked pixels, or the JPEG file that was inside. */
  image: RawImage | Uint8Array;
  icc: Uint8Array | null;
  /** Degrees clockwise that bring the image upright. */
  turn: 0 | 90 | 180 | 270;
  notes: ReadingNotes;
}

type DataSet = DicomParser.DataSet;
/** @throws DamagedImage | UnsupportedImage | TooManyPixels */
export function readDicom(bytes: Uint8Array, limits: { maxPixels: number }): DicomImage {
  const parser = optionalPackage<typeof DicomParser>('dicom-parser', 'a DICOM file');
  const maxOutputLength = limits.maxPixels * 6 + 2 ** 20;
  const dataSet = parser.parseDicom(bytes, {
    inflater: (packed: Uint8Array, position: number) =>
      Buffer.concat([
        packed.subarray(0, position),
        inflateRawSync(packed.subarray(position), { maxOutputLength }),
      ]),
  } as DicomParser.ParseDicomOptions);
  checkIsPhotograph(dataSet);
  const [height, width] = [dataSet.uint16('x00280010') ?? 0, dataSet.uint16('x00280011') ?? 0];
  checkSize(width, height, limits.maxPixels);
  const frames = dataSet.intString('x00280008') ?? 1;
  const profile = dataSet.elements.x00282000;
  return {
    image: readPixels(parser, dataSet, width, height, frames),
    icc: profile ? bytesOf(dataSet, profile) : null,
    turn: turnOf(dataSet.string('x00200020') ?? ''),
    notes: frames > 1 ? [`first of ${frames} frames`] : [],
  };
}

const bytesOf = (dataSet: DataSet, { dataOffset, length }: DicomParser.Element) =>
  Uint8Array.from(dataSet.byteArray.subarray(dataOffset, dataOffset + length));

function checkIsPhotograph(dataSet: DataSet): void {
  const modality = (dataSet.string('x00080060') ?? '').trim();
  if (!photographModalities.has(modality))
    throw new UnsupportedImage(
      `a DICOM file of modality ${/^[A-Z]{1,16}$/.test(modality) ? modality : '"other"'}, not a photograph`,
      'Leave this file out of the list, or give the photograph instead.',
    );
  const sopClass = (dataSet.string('x00080016') ?? dataSet.string('x00020002') ?? '').trim();
  if (!photographClasses.has(sopClass))
    throw new UnsupportedImage(
      'a DICOM file of a kind that is neither a photograph nor a secondary capture',
      'Leave this file out of the list, or give the photograph instead.',
    );
}

function readPixels(
  parser: typeof DicomParser,
  dataSet: DataSet,
  width: number,
  height: number,
  frames: number,
): RawImage | Uint8Array {
  const element = dataSet.elements.x7fe00010;
  if (element === undefined) throw new DamagedImage('no pixel data');
  const uid = (dataSet.string('x00020010') ?? syntax).trim();
  const photometric = (dataSet.string('x00280004') ?? '').trim();
  if (littleEndian.has(uid) || uid === bigEndian) {
    const size = { width, height };
    return uncompressed(dataSet, element, size, photometric, uid === bigEndian);
  }
  const isLossless = losslessInside.has(uid);
  if (!isLossless && !jpegInside.has(uid)) {
    const rest = uid.startsWith(`${syntax}.`) ? uid.slice(syntax.length + 1) : '';
    const name = otherSyntaxes.find(([pattern]) => pattern.test(rest))?.[1] ?? 'another coding';
    throw new UnsupportedImage(`a DICOM file with ${name} inside`);
  }
  const jpeg = firstFrame(parser, dataSet, element, frames);
  if (isLossless) return losslessJpeg(jpeg, width, height, photometric);
  const isUnmarked = readJpegCoding(jpeg)?.namesColours === false;
  return photometric === 'RGB' && isUnmarked ? markAsRgb(jpeg) : jpeg;
}

function firstFrame(
  parser: typeof DicomParser,
  dataSet: DataSet,
  element: DicomParser.Element,
  frames: number,
): Uint8Array {
  const fragments = element.fragments ?? [];
  if (fragments.length === 0) throw new DamagedImage('no pixel data');
  if (frames === 1)
    return Uint8Array.from(
      parser.readEncapsulatedPixelDataFromFragments(dataSet, element, 0, fragments.length),
    );
  const offsets = element.basicOffsetTable ?? [];
  const table = offsets.length > 0 ? offsets : parser.createJPEGBasicOffsetTable(dataSet, element);
  return Uint8Array.from(parser.readEncapsulatedImageFrame(dataSet, element, 0, table));
}

interface Sampling {
  channels: 1 | 3;
  white: number;
  isInverted: boolean;
  isYbr: boolean;
}

function samplingOf(photometric: string, bitsStored: number): Sampling {
  const channels = photometric.startsWith('MONOCHROME') ? 1 : 3;
  if (channels === 3 && photometric !== 'RGB' && photometric !== 'YBR_FULL')
    throw new UnsupportedImage(
      `a DICOM file with colours as ${/^[A-Z_0-9 ]{1,16}$/.test(photometric) ? photometric : 'something else'}`,
    );
  return {
    channels,
    white: 2 ** bitsStored - 1,
    isInverted: photometric === 'MONOCHROME1',
    isYbr: photometric === 'YBR_FULL',
  };
}

function uncompressed(
  dataSet: DataSet,
  element: DicomParser.Element,
  { width, height }: { width: number; height: number },
  photometric: string,
  isBigEndian: boolean,
): RawImage {
  const allocated = dataSet.uint16('x00280100') ?? 8;
  const stored = dataSet.uint16('x00280101') ?? allocated;
  const highBit = dataSet.uint16('x00280102') ?? stored - 1;
  if (
    (allocated !== 8 && allocated !== 16) ||
    stored < 1 ||
    stored > allocated ||
    highBit >= allocated ||
    highBit < stored - 1
  )
    throw new UnsupportedImage(`a DICOM file with ${allocated} bits for each sample`);
  if (dataSet.uint16('x00280103') === 1) throw new UnsupportedImage('a DICOM file with signed samples');
  const sampling = samplingOf(photometric, stored);
  const { channels } = sampling;
  if ((dataSet.uint16('x00280002') ?? channels) !== channels) throw new DamagedImage('samples per pixel');
  const count = width * height * channels;
  const { dataOffset } = element;
  const bytes = dataSet.byteArray;
  if (bytes.length < dataOffset + (count * allocated) / 8) throw new DamagedImage('cut short');
  const isPlanar = channels === 3 && dataSet.uint16('x00280006') === 1;
  const plane = width * height;
  const [low, high] = isBigEndian ? [1, 0] : [0, 1];
  const shift = highBit + 1 - stored;
  const samples = allocated === 16 ? new Uint16Array(count) : new Uint8Array(count);
  for (let index = 0; index < count; index++) {
    const from = isPlanar ? (index % 3) * plane + Math.floor(index / 3) : index;
    const word =
      allocated === 8
        ? bytes[dataOffset + from]!
        : bytes[dataOffset + from * 2 + low]! | (bytes[dataOffset + from * 2 + high]! << 8);
    samples[index] = (word >> shift) & sampling.white;
  }
  return finish({ width, height, channels, samples, white: sampling.white }, sampling);
}

function losslessJpeg(jpeg: Uint8Array, width: number, height: number, photometric: string): RawImage {
  const { Decoder } = optionalPackage<{
    Decoder: new () => {
      decode(buffer: ArrayBuffer, offset: number, length: number): Uint8Array | Uint16Array;
      frame: { precision: number; dimX: number; dimY: number; numComp: number };
    };
  }>('jpeg-lossless-decoder-js', 'a DICOM file with lossless JPEG inside');
  const coding = readJpegCoding(jpeg);
  const sampling = samplingOf(photometric, coding?.precision ?? 8);
  checkJpegSize(jpeg, width, height);
  const decoder = new Decoder();
  const samples = decoder.decode(jpeg.buffer as ArrayBuffer, jpeg.byteOffset, jpeg.byteLength);
  if (samples.length !== width * height * sampling.channels)
    throw new DamagedImage('size of the JPEG inside');
  return finish({ width, height, channels: sampling.channels, samples, white: sampling.white }, sampling);
}

/** The decoder takes memory by the JPEG's own header: it must be what the file around it said. */
function checkJpegSize(jpeg: Uint8Array, width: number, height: number): void {
  for (let at = 2; at + 9 < jpeg.length; ) {
    const marker = jpeg[at + 1]!;
    const length = (jpeg[at + 2]! << 8) | jpeg[at + 3]!;
    if (marker === 0xc3) {
      const size = [(jpeg[at + 7]! << 8) | jpeg[at + 8]!, (jpeg[at + 5]! << 8) | jpeg[at + 6]!];
      if (size[0] === width && size[1] === height) return;
      break;
    }
    at += 2 + length;
  }
  throw new DamagedImage('size of the JPEG inside');
}

function finish(image: RawImage, { isInverted, isYbr, white }: Sampling): RawImage {
  const { samples } = image;
  if (isInverted)
    for (let index = 0; index < samples.length; index++) samples[index] = white - samples[index]!;
  if (isYbr) ybrToRgb(samples, white);
  return image;
}

/** ITU-R BT.601, full range (DICOM PS3.3 C.7.6.3.1.2). */
function ybrToRgb(samples: Uint8Array | Uint16Array, white: number): void {
  const middle = (white + 1) / 2;
  const clamp = (value: number) => Math.max(0, Math.min(white, Math.round(value)));
  for (let at = 0; at < samples.length; at += 3) {
    const [y, cb, cr] = [samples[at]!, samples[at + 1]! - middle, samples[at + 2]! - middle];
    samples[at] = clamp(y + 1.402 * cr);
    samples[at + 1] = clamp(y - 0.344136 * cb - 0.714136 * cr);
    samples[at + 2] = clamp(y + 1.772 * cb);
  }
}

/** Patient Orientation is where rows and columns run to: upright means that columns run to the feet. */
function turnOf(orientation: string): DicomImage['turn'] {
  const [row = '', column = ''] = orientation.split('\\').map((part) => part.trim());
  if (column.startsWith('F') || column === '') return 0;
  if (column.startsWith('H')) return 180;
  if (row.startsWith('H')) return 270;
  if (row.startsWith('F')) return 90;
  return 0;
}
