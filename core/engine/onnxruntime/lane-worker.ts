/** Worker thread: one more session of a graph, run after run (see lane.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import * as ort from 'onnxruntime-node';
import type { LaneData, LaneReply, LaneRequest } from './lane.ts';
import { toOrtTensors } from './ort-tensors.ts';

const port = parentPort!;
const { model, options, inputs, outputs } = workerData as LaneData;
const reply = (message: LaneReply) => port.postMessage(message);
const session = await ort.InferenceSession.create(model, options);
const feeds = toOrtTensors(Object.entries(inputs));
/** The runtime writes its results right into the shared memory. */
const fetches = toOrtTensors(Object.entries(outputs));

async function run(): Promise<void> {
  try {
    await session.run(feeds, fetches);
    reply({ type: 'done' });
  } catch (thrown) {
    reply({ type: 'failed', message: thrown instanceof Error ? thrown.message : String(thrown) });
  }
}

port.on('message', async (request: LaneRequest) => {
  if (request === 'run') return run();
  await session.release();
  port.close();
});
reply({ type: 'ready' });
