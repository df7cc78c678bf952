/**
 * The best that this machine's ONNX Runtime does with one large matrix product: what a step's arithmetic is
 * set against. Arguments: THREADS.
 */
import { createInterface } from 'node:readline';
import { loadEngine } from '../../core/engine/engines.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { requestSchema } from './messages.ts';

const size = 1536;

const engine = await loadEngine('onnxruntime');
const filled = () => floatTensor([size, size], new Float32Array(size * size).fill(1e-3));
const builder = new GraphBuilder();
const x = builder.input('x', 'float32', [size, size]);
// The sum keeps the answer small: copying it out is no part of the product.
const product = builder.matMul(x, builder.constant(filled(), 'weight'));
builder.output(builder.reduceSum(product, undefined, false), 'sum');
const threads = Number(process.argv[2]);
const executable = await engine.compile(builder.build(), { device: 'cpu', threads, spinning: true });
const feeds = { x: filled() };
await executable.run(feeds);
process.stdout.write(`${JSON.stringify({ type: 'ready' })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const request = requestSchema.parse(JSON.parse(line));
  if (request.type !== 'steps') break;
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < request.count; run++) {
    const startMs = performance.now();
    await executable.run(feeds);
    best = Math.min(best, (performance.now() - startMs) / 1000);
  }
  process.stdout.write(`${JSON.stringify({ type: 'stepped', flopsPerSecond: (2 * size ** 3) / best })}\n`);
}
await executable.release();
