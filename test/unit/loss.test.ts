import { describe, expect, test } from 'vitest';
import { cutBatch } from '../../core/engine/batches.ts';
import { type ArcShape, appendHead, appendLoss } from '../../core/engine/loss.ts';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { appendGradients } from '../../core/graph/autodiff.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { createRandom } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor, type Tensor } from '../../core/shared/tensor.ts';

const classes = 3;
const embeddingSize = 5;
const wrt = ['embedding', 'head.weight'];

interface LossOptions {
  batch: number;
  arc?: ArcShape;
  labelSmoothing?: number;
}

/** Loss on given embeddings, with gradients; `run` feeds it. */
async function compileLoss({ batch, arc, labelSmoothing = 0 }: LossOptions) {
  const builder = new GraphBuilder();
  const embedding = builder.input('embedding', 'float32', [batch, embeddingSize]);
  const shape = { classes, embeddingSize, headGain: 1, batch, labelSmoothing, arc };
  const { loss, logits } = appendLoss(builder, embedding, shape);
  const gradients = appendGradients(builder, loss, wrt);
  builder.output(loss, 'loss');
  builder.output(logits, 'logits');
  for (const name of wrt) builder.output(gradients.get(name)!, `gradient/${name}`);
  const executable = await createOnnxRuntimeEngine().compile(builder.build(), { device: 'cpu', threads: 1 });
  return async (feeds: Record<string, Tensor>) =>
    (await executable.run(feeds)) as Record<string, FloatTensor>;
}

function randomTensor(dims: number[], seed: number): FloatTensor {
  const random = createRandom(seed);
  const tensor = floatTensor(dims);
  for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = random.normal();
  return tensor;
}

const labels = (...values: number[]): Tensor => ({
  dtype: 'int64',
  dims: [values.length],
  data: BigInt64Array.from(values, BigInt),
});
const vector = (...values: number[]) => floatTensor([values.length], Float32Array.from(values));
const prior = vector(1 / 3, 1 / 3, 1 / 3);
const head = {
  'head.weight': randomTensor([classes, embeddingSize], 2),
  'head.bias': vector(0.1, -0.2, 0.3),
};

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const dot = (x: ArrayLike<number>, y: ArrayLike<number>) =>
    Array.from(x).reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function crossEntropy(logits: number[], label: number): number {
  const largest = Math.max(...logits);
  return (
    Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)) + largest - logits[label]!
  );
}

describe('the arcface head', () => {
  const arc = { scale: 12, margin: 0.4 };
  const batch = 4;
  const embeddings = randomTensor([batch, embeddingSize], 1);
  const targets = [0, 2, 1, 1];
  const feeds = {
    embedding: embeddings,
    ...head,
    labels: labels(...targets),
    sampleWeights: vector(0.25, 0.25, 0.25, 0.25),
    classPrior: prior,
  };
  const row = (tensor: FloatTensor, index: number) =>
    tensor.data.subarray(index * embeddingSize, (index + 1) * embeddingSize);

  test('is the cross entropy of scaled cosines with the margin on the right class', async () => {
    const run = await compileLoss({ batch, arc });

    const outputs = await run(feeds);

    const losses = targets.map((target, sample) => {
      const logits = [0, 1, 2].map((index) => {
        const cos = cosine(row(embeddings, sample), row(head['head.weight'], index));
        return arc.scale * (index === target ? Math.cos(Math.acos(cos) + arc.margin) : cos);
      });
      return crossEntropy(logits, target);
    });
    expect(outputs['loss']!.data[0]).toBeCloseTo(losses.reduce((sum, loss) => sum + loss, 0) / batch, 4);
    const cos = cosine(row(embeddings, 1), row(head['head.weight'], 2));
    expect(outputs['logits']!.data[5]).toBeCloseTo(arc.scale * cos, 4);
  });

  test('gives evaluation the logits without margin, and takes no bias', async () => {
    const builder = new GraphBuilder();
    const embedding = builder.input('embedding', 'float32', [batch, embeddingSize]);
    const shape = { classes, embeddingSize, headGain: 1, arc: { ...arc, margin: 0 } };
    builder.output(appendHead(builder, embedding, shape).logits, 'logits');
    const graph = builder.build();
    const executable = await createOnnxRuntimeEngine().compile(graph, { device: 'cpu', threads: 1 });

    const { logits } = await executable.run({ embedding: embeddings, ...head });

    const training = await (await compileLoss({ batch, arc }))(feeds);
    expect(graph.inputs).toEqual(['embedding', 'head.weight']);
    for (const [i, value] of training['logits']!.data.entries()) {
      expect(Number(logits!.data[i])).toBeCloseTo(value, 5);
    }
  });

  test('past π − margin the loss still rises with the angle', async () => {
    const run = await compileLoss({ batch: 1, arc: { scale: 4, margin: 0.5 } });
    const weight = floatTensor([classes, embeddingSize]);
    weight.data[0] = 1;
    weight.data[embeddingSize + 2] = 1;
    weight.data[2 * embeddingSize + 3] = 1;
    const lossAt = async (angle: number) => {
      const embedding = floatTensor([1, embeddingSize]);
      embedding.data[0] = Math.cos(angle);
      embedding.data[1] = Math.sin(angle);
      const outputs = await run({
        ...head,
        'head.weight': weight,
        embedding,
        labels: labels(0),
        sampleWeights: vector(1),
        classPrior: prior,
      });
      return outputs['loss']!.data[0]!;
    };
    const angles = Array.from({ length: 16 }, (_, i) => (i * Math.PI) / 15);
    const losses: number[] = [];
    for (const angle of angles) losses.push(await lossAt(angle));

    for (let i = 1; i < losses.length; i++) expect(losses[i]).toBeGreaterThan(losses[i - 1]!);
  });

  test.each(wrt)('its gradient for %s agrees with finite differences, also past π − margin', async (name) => {
    const opposite = floatTensor([batch, embeddingSize], embeddings.data.slice());
    // The last sample points almost away from its class.
    for (let i = 0; i < embeddingSize; i++) {
      opposite.data[3 * embeddingSize + i] = -2 * head['head.weight'].data[embeddingSize + i]! + 0.05 * i;
    }
    const run = await compileLoss({ batch, arc });
    const point: Record<string, Tensor> = { ...feeds, embedding: opposite };
    const gradient = (await run(point))[`gradient/${name}`]!.data;
    const { data } = point[name] as FloatTensor;
    const lossWith = async (index: number, change: number) => {
      const moved = floatTensor(point[name]!.dims, data.slice());
      moved.data[index]! += change;
      return (await run({ ...point, [name]: moved }))['loss']!.data[0]!;
    };

    for (let index = 0; index < data.length; index++) {
      const slope = ((await lossWith(index, 1e-2)) - (await lossWith(index, -1e-2))) / 2e-2;
      expect(Math.abs(slope - gradient[index]!)).toBeLessThan(5e-3 + 0.02 * Math.abs(slope));
    }
  });
});

describe('a batch cut into parts', () => {
  test.each([1, 2, 3, 5])('of %i gives the loss and gradients of the whole', async (size) => {
    const batch = 7;
    const embeddings = randomTensor([batch, embeddingSize], 5);
    const targets = [0, 1, 2, 2, 1, 0, 2];
    const classWeight = [1, 2.5, 0.5];
    const draws = targets.map((_, index) => ({ index, augmentation: undefined }));
    const weightOf = ({ index }: { index: number }) => classWeight[targets[index]!]!;
    const evaluate = async (slots: number) => {
      const run = await compileLoss({ batch: slots, labelSmoothing: 0.1 });
      let loss = 0;
      const weight = new Float64Array(classes * embeddingSize);
      for (const part of cutBatch(draws, slots, weightOf)) {
        const embedding = floatTensor([slots, embeddingSize]);
        const start = part.offset * embeddingSize;
        embedding.data.set(embeddings.data.subarray(start, start + part.draws.length * embeddingSize));
        const fill = <T>(values: readonly T[], rest: T) =>
          Array.from({ length: slots }, (_, slot) => values[slot] ?? rest);
        const outputs = await run({
          ...head,
          embedding,
          labels: labels(
            ...fill(
              part.draws.map(({ index }) => targets[index]!),
              0,
            ),
          ),
          sampleWeights: vector(...fill(part.weights, 0)),
          classPrior: prior,
        });
        loss += outputs['loss']!.data[0]!;
        for (const [i, value] of outputs['gradient/head.weight']!.data.entries()) weight[i]! += value;
      }
      return { loss, weight };
    };

    const whole = await evaluate(batch);
    const parts = await evaluate(size);

    expect(parts.loss).toBeCloseTo(whole.loss, 6);
    for (const [i, value] of parts.weight.entries()) expect(value).toBeCloseTo(whole.weight[i]!, 6);
    // Weighted by class, as PyTorch's cross entropy with `weight` has its mean.
    const total = targets.reduce((sum, target) => sum + classWeight[target]!, 0);
    expect(cutBatch(draws, batch, weightOf)[0]!.weights[1]).toBeCloseTo(2.5 / total, 10);
  });
});
