/**
 * A process of its own that computes one sum on a device: `node probe-device.ts webgpu`. It exits with 0 when
 * that works, else its error output says why not. A driver that crashes takes this process down and nothing else.
 */
import { GraphBuilder } from '../../graph/graph-builder.ts';
import { watchParent } from '../../process/parent-watch.ts';
import { floatTensor } from '../../shared/tensor.ts';
import type { DeviceKind } from '../engine.ts';
import { compile } from './session.ts';

watchParent();
const builder = new GraphBuilder();
const x = builder.input('x', 'float32', [2]);
builder.output(builder.add(x, x), 'sum');
const device = process.argv[2] as DeviceKind;
try {
  const executable = await compile(builder.build(), { device });
  const { sum } = await executable.run({ x: floatTensor([2], Float32Array.of(1, 2)) });
  await executable.release();
  if (Number(sum?.data[0]) !== 2 || Number(sum?.data[1]) !== 4)
    throw new Error('The device computes wrong sums.');
} catch (thrown) {
  console.error(thrown);
  process.exit(1);
}
// A runtime that is being torn down can still crash; the answer is known by now.
process.exit(0);
