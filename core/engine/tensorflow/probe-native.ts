/**
 * A process of its own that loads the native library and computes one product:
 * `node probe-native.ts cpu|cuda FOLDER`. A library that crashes takes this process down and nothing else.
 */
import * as tf from '@tensorflow/tfjs';
import { watchParent } from '../../process/parent-watch.ts';
import { toAppError } from '../../shared/errors.ts';
import { readInstallation } from './installation.ts';
import { loadNativeBackend, nativeBackendName } from './native-backend.ts';
import type { ProbeReport } from './probe.ts';

async function probe(device: string, folder: string): Promise<ProbeReport> {
  const installation = readInstallation(folder);
  if (installation === undefined) throw new Error('nothing is installed there');
  const library = loadNativeBackend(installation, { gpu: device === 'cuda' });
  await tf.setBackend(nativeBackendName);
  const product = tf.matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.tensor2d([1, 0, 0, 2], [2, 2]));
  return { ...library, computes: [...product.dataSync()].join() === '1,4,3,8' };
}

watchParent();
try {
  process.stdout.write(JSON.stringify(await probe(process.argv[2] ?? 'cpu', process.argv[3] ?? '')));
  // A library that is being torn down can still crash; the answer is known by now.
  process.exit(0);
} catch (cause) {
  process.stdout.write(JSON.stringify({ failure: toAppError(cause).message }));
  process.exit(1);
}
