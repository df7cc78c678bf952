/** The cascade's networks on an engine: compiled for the shapes that turn up. */
import type { Graph } from '../../graph/graph.ts';
import {
  buildOutputGraph,
  buildProposalGraph,
  buildRefineGraph,
  loadMtcnnWeights,
} from '../../models/mtcnn.ts';
import { elementCount, type FloatTensor, floatTensor, type Tensor } from '../../shared/tensor.ts';
import type { DeviceKind, Engine, Executable } from '../engine.ts';
import type { CascadeNetworks } from './cascade.ts';

/** Windows computed at once; what is left of a batch is zeros. */
const batches = { refine: [16, 64], output: [4, 16] } as const;
/** Sizes of photographs differ little, and each has a dozen reductions. */
const mostCompiled = 96;

export interface RunningNetworks extends CascadeNetworks {
  release(): Promise<void>;
}

/** @throws AppError MODEL_FILE_INVALID; DEVICE_UNAVAILABLE with the first use */
export async function createNetworks(
  engine: Pick<Engine, 'compile'>,
  { device, threads }: { device: DeviceKind; threads: number },
): Promise<RunningNetworks> {
  const weights = await loadMtcnnWeights();
  const compiled = new Map<string, Promise<Executable>>();

  async function executable(key: string, build: () => Graph): Promise<Executable> {
    const known = compiled.get(key);
    if (known !== undefined) {
      compiled.delete(key);
      compiled.set(key, known);
      return known;
    }
    const made = engine.compile(build(), { device, threads });
    compiled.set(key, made);
    const [oldest] = compiled;
    if (compiled.size > mostCompiled && oldest !== undefined) {
      compiled.delete(oldest[0]);
      await (await oldest[1]).release();
    }
    return made;
  }

  /** Any number of windows, in batches of the sizes that are compiled. */
  async function inBatches(name: 'refine' | 'output', build: (batch: number) => Graph, pixels: FloatTensor) {
    const [count = 0, ...shape] = pixels.dims;
    const values = elementCount(shape);
    const rows = new Map<string, number[]>();
    const largest = batches[name].at(-1)!;
    for (let first = 0; first < count; first += largest) {
      const own = Math.min(largest, count - first);
      const batch = batches[name].find((size) => size >= own)!;
      const input = floatTensor([batch, ...shape]);
      input.data.set(pixels.data.subarray(first * values, (first + own) * values));
      const net = await executable(`${name} ${batch}`, () => build(batch));
      for (const [output, tensor] of Object.entries(await net.run({ pixels: input }))) {
        const width = tensor.dims[1]!;
        const known = rows.get(output) ?? [];
        rows.set(output, known);
        for (let index = 0; index < own * width; index++) known.push(Number(tensor.data[index]));
      }
    }
    return (output: string): FloatTensor => {
      const data = Float32Array.from(rows.get(output)!);
      return floatTensor([count, data.length / count], data);
    };
  }

  return {
    async propose(pixels) {
      const [, , rows = 0, columns = 0] = pixels.dims;
      const net = await executable(`propose ${rows} ${columns}`, () =>
        buildProposalGraph(weights, rows, columns),
      );
      const { scores, offsets } = await net.run({ pixels });
      return { scores: floats(scores), offsets: floats(offsets) };
    },
    async refine(pixels) {
      const of = await inBatches('refine', (batch) => buildRefineGraph(weights, batch), pixels);
      return { scores: of('scores'), offsets: of('offsets') };
    },
    async output(pixels) {
      const of = await inBatches('output', (batch) => buildOutputGraph(weights, batch), pixels);
      return { scores: of('scores'), offsets: of('offsets'), landmarks: of('landmarks') };
    },
    async release() {
      const all = [...compiled.values()];
      compiled.clear();
      for (const each of all) await (await each).release();
    },
  };
}

function floats(tensor: Tensor | undefined): FloatTensor {
  if (tensor?.dtype !== 'float32') throw new TypeError('expected numbers of float32');
  return tensor as FloatTensor;
}
