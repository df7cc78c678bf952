/** The classifier's heads with their loss: appended gradients of embedding and weights against finite differences. */
import { expect, test } from 'vitest';
import { type ArcShape, appendLoss } from '../../core/engine/loss.ts';
import { appendGradients } from '../../core/graph/autodiff.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor, type Tensor } from '../../core/shared/tensor.ts';
import { compile, randomTensor, relativeError } from './finite-differences.ts';

const [batch, classes, embeddingSize] = [5, 4, 6];
const targets = [0, 3, 1, 2, 1];

type Feeds = Record<'embedding' | 'head.weight' | 'head.bias', ReturnType<typeof floatTensor>>;

async function compileHead(arc: ArcShape | undefined, headGain: number) {
  const builder = new GraphBuilder();
  const embedding = builder.input('embedding', 'float32', [batch, embeddingSize]);
  const shape = { ...{ batch, classes, embeddingSize, headGain, arc }, labelSmoothing: 0.05 };
  const { loss } = appendLoss(builder, embedding, shape);
  const wrt = arc === undefined ? ['embedding', 'head.weight', 'head.bias'] : ['embedding', 'head.weight'];
  const gradients = appendGradients(builder, loss, wrt);
  builder.output(loss, 'loss');
  for (const name of wrt) builder.output(gradients.get(name)!, `gradient of ${name}`);
  const executable = await compile(builder.build());
  const prior = [0.4, 0.3, 0.2, 0.1];
  const fixed: Record<string, Tensor> = {
    labels: { dtype: 'int64', dims: [batch], data: BigInt64Array.from(targets, BigInt) },
    sampleWeights: floatTensor([batch], Float32Array.of(0.3, 0.1, 0.2, 0.25, 0.15)),
    classPrior: floatTensor([classes], Float32Array.from(prior)),
  };
  return { wrt: wrt as (keyof Feeds)[], run: (feeds: Feeds) => executable.run({ ...feeds, ...fixed }) };
}

/** Central differences of the loss. @param step where scaled cosines bend, it has to be short */
async function slopes(
  run: (feeds: Feeds) => Promise<Record<string, Tensor>>,
  feeds: Feeds,
  name: keyof Feeds,
  step: number,
): Promise<Float64Array> {
  const { dims, data } = feeds[name];
  const lossAt = async (index: number, value: number) => {
    const moved = data.slice();
    moved[index] = value;
    const outputs = await run({ ...feeds, [name]: floatTensor(dims, moved) });
    // What the shift became in float32.
    return { loss: Number(outputs['loss']!.data[0]), at: moved[index]! };
  };
  const result = new Float64Array(data.length);
  for (const [index, value] of data.entries()) {
    const [up, down] = [await lossAt(index, value + step), await lossAt(index, value - step)];
    result[index] = (up.loss - down.loss) / (up.at - down.at);
  }
  return result;
}

const cosineOf = (scale: number): ArcShape => ({ scale, margin: 0 });

test.each<[string, ArcShape | undefined, number, number]>([
  ['linear', undefined, 1, 1],
  ['linear with a gain of 8', undefined, 8, 1],
  ['cosine, scale 1', cosineOf(1), 1, 1],
  ['cosine, scale 16', cosineOf(16), 1, 1],
  ['cosine, scale 64', cosineOf(64), 1, 1],
  ['cosine, scale 16, embeddings of length 30 and more', cosineOf(16), 1, 20],
  ['cosine, scale 16, whatever the gain', cosineOf(16), 8, 1],
  ['arcface, scale 16, margin 0.3', { scale: 16, margin: 0.3 }, 1, 1],
  ['arcface, scale 64, margin 0.5', { scale: 64, margin: 0.5 }, 1, 1],
])('a head that is %s', async (_name, arc, headGain, size) => {
  const { wrt, run } = await compileHead(arc, headGain);
  const feeds: Feeds = {
    embedding: randomTensor([batch, embeddingSize], 'embedding', size),
    'head.weight': randomTensor([classes, embeddingSize], 'weight'),
    'head.bias': randomTensor([classes], 'bias'),
  };

  const outputs = await run(feeds);

  for (const name of wrt) {
    const reach = name === 'embedding' ? size : 1;
    const step = (0.02 * reach) / Math.max(1, arc?.scale ?? headGain);
    const numeric = await slopes(run, feeds, name, step);
    const gradient = outputs[`gradient of ${name}`]!.data as Float32Array;
    const largest = Math.max(...numeric.map(Math.abs));
    expect(largest, `gradient of ${name}`).toBeGreaterThan(0);
    // Relative to the largest: gradients of a long embedding are small.
    const scaled = (values: Float64Array | Float32Array) => Array.from(values, (value) => value / largest);
    const error = relativeError(Float32Array.from(scaled(gradient)), Float64Array.from(scaled(numeric)));
    expect(error, `gradient of ${name}`).toBeLessThan(2e-3);
  }
});
