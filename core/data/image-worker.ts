/**
 * Worker thread: reads image formats that the image library does not. What it is given comes from outside, and the
 * readers are JavaScript and WebAssembly: the caller ends this thread when one takes too long.
 */
import { parentPort } from 'node:worker_threads';
import { decodeBmp } from './bmp.ts';
import { readDicom } from './dicom.ts';
import { decodeHeic } from './heic.ts';
import { type ImageReply, type ImageRequest, imageRequestSchema } from './image-protocol.ts';
import { decodePnm } from './pnm.ts';
import { type RawImage, type ReadingNotes, refusalOf, toRgb8 } from './raw-image.ts';

const port = parentPort!;

interface Read {
  image: RawImage | Uint8Array;
  icc?: Uint8Array | null;
  turn?: 0 | 90 | 180 | 270;
  notes?: ReadingNotes;
}

async function read({ format, bytes, maxPixels }: ImageRequest): Promise<Read> {
  if (format === 'bmp') return { image: decodeBmp(bytes, maxPixels) };
  if (format === 'pnm') return { image: decodePnm(bytes, maxPixels) };
  if (format === 'heic') return decodeHeic(bytes, maxPixels);
  return readDicom(bytes, { maxPixels });
}

/** Of its own memory, so that it can be moved. */
const own = (bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
  bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength
    ? (bytes as Uint8Array<ArrayBuffer>)
    : Uint8Array.from(bytes);

async function answer(request: ImageRequest): Promise<void> {
  const { id } = request;
  const send = (reply: ImageReply, ...moved: Uint8Array<ArrayBuffer>[]) =>
    port.postMessage(
      reply,
      moved.map(({ buffer }) => buffer),
    );
  try {
    const { image, icc = null, turn = 0, notes = [] } = await read(request);
    const shared = { id, icc: icc && own(icc), turn, notes };
    if (image instanceof Uint8Array) {
      const bytes = own(image);
      send({ type: 'jpeg', ...shared, bytes }, bytes);
    } else {
      const data = own(toRgb8(image));
      send({ type: 'pixels', ...shared, width: image.width, height: image.height, data }, data);
    }
  } catch (error) {
    send({ type: 'refused', id, refusal: refusalOf(error) });
  }
}

port.on('message', (message: unknown) => void answer(imageRequestSchema.parse(message)));
