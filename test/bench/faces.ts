/**
 * How well and how fast faces are found and cut out: `npm run bench:faces`. Needs the AT&T faces and networks of ../shared, and a Python
 * with opencv-python-headless and scikit-image in BENCH_PYTHON; without that only our own figures. Prints tables; `--json FILE` keeps
 * the figures, `--only found|speed|recognition` measures one of them, `--quick` a quarter of the faces.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { decodeImage } from '../../core/data/decode.ts';
import { alignRegion, cutRegion } from '../../core/data/face-region.ts';
import {
  arcfaceTemplate,
  dlibTemplate,
  type FiveLandmarks,
  templateOf,
} from '../../core/data/face-templates.ts';
import type { FaceDetector } from '../../core/data/faces.ts';
import { readLabelsCsv } from '../../core/data/labels-csv.ts';
import { findUprightFaces } from '../../core/data/upright-faces.ts';
import { createFaceDetector } from '../../core/engine/faces/detector.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { createCatalogue, defaultBaseId } from '../../core/models/catalogue.ts';
import { embedSquares } from '../fixtures/embed-squares.ts';
import { tarDifference, verification } from './face-verification.ts';

const { values: options } = parseArgs({
  options: { json: { type: 'string' }, quick: { type: 'boolean' }, only: { type: 'string' } },
});
const shared = fileURLToPath(new URL('../../../shared/', import.meta.url));
const facesFolder = join(shared, 'data/olivetti/images');
const mobileFaceNet = join(shared, 'models/onnx/mobilefacenet-112.onnx');
const yunet = join(shared, 'models/onnx/yunet-2026may.onnx');
const python = process.env['BENCH_PYTHON'];
const referenceFile = fileURLToPath(new URL('./faces_reference.py', import.meta.url));
/** Mean and deviation that the MobileFaceNet was trained with: ImageNet's. */
const imageNet = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

if (!existsSync(facesFolder)) {
  console.error('The AT&T faces are not beside this checkout (../shared): nothing to measure.');
  process.exit(1);
}
const folder = mkdtempSync(join(tmpdir(), 'anneal-bench-faces-'));
const rows = (await readLabelsCsv(join(shared, 'data/olivetti/labels.csv'))).filter(
  (_, index) => options.quick !== true || index % 4 === 0,
);
const files = rows.map(({ file }) => join(facesFolder, file));
const subjects = rows.map(({ subject }) => subject);
const reference = (task: string, file: string): Record<string, number> =>
  JSON.parse(
    execFileSync(python!, [referenceFile, yunet, task, file], {
      stdio: ['ignore', 'pipe', 'ignore'],
    }).toString(),
  );

const detector = await createFaceDetector({ processes: 2 });
const report: Record<string, unknown> = {};
try {
  for (const [name, measure] of Object.entries({
    found: measureFound,
    speed: measureSpeed,
    recognition: measureRecognition,
  })) {
    if (options.only !== undefined && options.only !== name) continue;
    report[name] = await measure(detector);
    console.table(report[name]);
  }
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
} finally {
  await detector.close();
  rmSync(folder, { recursive: true });
}

/** An AT&T face that takes this share of a photograph of `side` pixels, turned by some degrees. */
async function photograph(file: string, side: number, share: number, degrees: number): Promise<Buffer> {
  const size = Math.round(side * share);
  const face = await sharp(file)
    .resize(size, size, { kernel: 'cubic' })
    .toColourspace('srgb')
    .png()
    .toBuffer();
  const ground = { width: side, height: side, channels: 3 as const, background: '#5a7a9a' };
  const pasted = await sharp({ create: ground })
    .composite([{ input: face }])
    .png()
    .toBuffer();
  return sharp(pasted).rotate(degrees, { background: ground.background }).jpeg({ quality: 95 }).toBuffer();
}

async function measureFound(finder: FaceDetector) {
  const kinds: [string, number, number, number][] = [
    ['as they are, 64 pixels', 0, 0, 0],
    ['fills the photograph', 640, 1, 0],
    ['fills three quarters of it', 640, 0.75, 0],
    ['half of it', 640, 0.5, 0],
    ['a tenth', 1280, 0.1, 0],
    ['a twenty-fifth', 1600, 0.04, 0],
    ['half, tilted by 40 degrees', 640, 0.5, 40],
    ['half, on its side', 640, 0.5, 90],
  ];
  const table: Record<string, unknown> = {};
  for (const [name, side, share, degrees] of kinds) {
    const photographs: string[] = [];
    const counts: number[] = [];
    for (const [index, file] of files.entries()) {
      const made = side === 0 ? file : join(folder, `found-${index}.jpg`);
      if (side !== 0) writeFileSync(made, await photograph(file, side, share, degrees));
      photographs.push(made);
      counts.push(
        (await findUprightFaces(await decodeImage(readFileSync(made), 'face'), finder)).faces.length,
      );
    }
    const list = join(folder, 'found.txt');
    writeFileSync(list, photographs.join('\n'));
    table[name] = {
      photographs: files.length,
      one: counts.filter((count) => count === 1).length,
      none: counts.filter((count) => count === 0).length,
      several: counts.filter((count) => count > 1).length,
      ...(python === undefined ? {} : { 'YuNet, one or more': reference('detect', list)['found'] }),
    };
  }
  return table;
}

/** Both sides take turns over the same files, decoding included; ratios are medians of the turns. */
async function measureSpeed(finder: FaceDetector) {
  const names = await Promise.all(
    files.slice(0, 64).map(async (file, index) => {
      const name = join(folder, `photograph-${index}.jpg`);
      writeFileSync(name, await photograph(file, 1000, 0.4, 0));
      return name;
    }),
  );
  const list = join(folder, 'photographs.txt');
  writeFileSync(list, names.join('\n'));
  const detectAll = async () => {
    const started = performance.now();
    const queue = [...names];
    await Promise.all(
      Array.from({ length: 6 }, async () => {
        for (let name = queue.pop(); name !== undefined; name = queue.pop())
          await findUprightFaces(await decodeImage(readFileSync(name), 'photograph'), finder);
      }),
    );
    return (1000 * names.length) / (performance.now() - started);
  };
  await detectAll();
  const turns = [];
  for (let turn = 0; turn < (options.quick ? 1 : 3); turn++) {
    const ours = await detectAll();
    const theirs = python === undefined ? null : reference('detect', list)['perSecond']!;
    turns.push({
      'ours, photographs/s': ours,
      'YuNet in OpenCV, photographs/s': theirs,
      ratio: theirs && ours / theirs,
    });
  }
  return turns;
}

async function measureRecognition(finder: FaceDetector) {
  const found = await Promise.all(
    files.map(async (file) => {
      const image = await decodeImage(readFileSync(file), 'face');
      const { image: upright, faces } = await findUprightFaces(image, finder);
      return { image: upright, face: faces[0] ?? null };
    }),
  );
  const catalogue = createCatalogue(join(folder, 'models'));
  await catalogue.import(mobileFaceNet, { id: 'mobilefacenet-112', ...imageNet });
  const table: Record<string, unknown> = {};
  for (const id of ['mobilefacenet-112', defaultBaseId]) {
    const base = await catalogue.load(id);
    const ours = await Promise.all(
      found.map(async ({ image, face }) =>
        face === null
          ? plain(image)
          : alignRegion(await cutRegion(image, face), base.alignment, base.inputSize),
      ),
    );
    async function plain(image: { width: number; height: number; data: Uint8Array }) {
      const { width, height, data } = image;
      return sharp(data, { raw: { width, height, channels: 3 } })
        .resize(base.inputSize, base.inputSize)
        .raw()
        .toBuffer();
    }
    const own = await embeddingsOf(base, ours);
    table[`${id}, ${base.alignment}`] = {
      found: found.filter(({ face }) => face !== null).length,
      ...scoresOf(own),
    };
    const asTheyAre = await Promise.all(found.map(({ image }) => plain(image)));
    table[`${id}, picture as it is`] = scoresOf(await embeddingsOf(base, asTheyAre));
    if (python === undefined) continue;
    const others: [string, (FiveLandmarks | null)[] | null][] = [
      ['our landmarks', found.map(({ face }) => face?.landmarks ?? null)],
      ['YuNet', null],
    ];
    for (const [name, landmarks] of others) {
      const { squares, count } = referenceSquares(base, landmarks);
      const theirs = await embeddingsOf(base, squares);
      table[`${id}, reference warp, ${name}`] = {
        found: count,
        ...scoresOf(theirs),
        'ours more by': shown(tarDifference(own.plain, theirs.plain, subjects)),
        'ours more by, flip averaged': shown(tarDifference(own.averaged, theirs.averaged, subjects)),
      };
    }
  }
  return table;
}

function referenceSquares(
  base: BaseModel,
  landmarks: readonly (FiveLandmarks | null)[] | null,
): { squares: Uint8Array[]; count: number } {
  const { points, side: own } =
    templateOf(base.alignment) ?? (base.inputSize === 150 ? dlibTemplate : arcfaceTemplate);
  const side = base.inputSize;
  const [order, out] = [join(folder, 'order.json'), join(folder, 'squares.raw')];
  const images = files.map((file, index) => ({
    file,
    ...(landmarks === null ? {} : { landmarks: landmarks[index]?.map(({ x, y }) => [x, y]) ?? [] }),
  }));
  const template = points.map(({ x, y }) => [(x * side) / own, (y * side) / own]);
  writeFileSync(order, JSON.stringify({ template, side, out, images }));
  const count = reference('warp', order)['found']!;
  const bytes = readFileSync(out);
  const size = 3 * side * side;
  return { squares: files.map((_, index) => bytes.subarray(index * size, (index + 1) * size)), count };
}

async function embeddingsOf(base: BaseModel, squares: readonly Uint8Array[]) {
  return {
    plain: await embedSquares(base, squares, { flip: false }),
    averaged: await embedSquares(base, squares, { flip: true }),
  };
}

function scoresOf({ plain, averaged }: Awaited<ReturnType<typeof embeddingsOf>>) {
  const [one, both] = [verification(plain, subjects), verification(averaged, subjects)];
  return {
    'TAR at FAR 1e-3': one.tar,
    '1-NN': one.nearest,
    'TAR, flip averaged': both.tar,
    '1-NN, flip averaged': both.nearest,
  };
}

function shown({ difference, standardError }: { difference: number; standardError: number }): string {
  return `${difference.toFixed(4)} ± ${standardError.toFixed(4)}`;
}
