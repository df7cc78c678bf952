/**
 * `npm run setup:tensorflow`: installs libtensorflow and the addon that binds it to Node into a folder of the
 * user's (see core/engine/tensorflow/installation.ts), so that `npm ci` does not take them away again.
 *
 *     npm run setup:tensorflow                 fetches them the way @tensorflow/tfjs-node-gpu itself does
 *     npm run setup:tensorflow -- --cpu        the same with the smaller library for processors
 *     npm run setup:tensorflow -- --from DIR   takes the libtensorflow in DIR (libraries and include/)
 *     npm run setup:tensorflow -- --to DIR     another folder; the engine then wants ANNEAL_TENSORFLOW=DIR
 *
 * Everything is put together and tried out beside the folder, which is then exchanged in one step.
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { tensorFlowFolder } from '../core/engine/tensorflow/installation.ts';
import { AppError, toAppError } from '../core/shared/errors.ts';
import { downloadTensorFlow } from './tensorflow/download.ts';
import { installTensorFlow, workingInstallation } from './tensorflow/install.ts';
import { placeTensorFlow } from './tensorflow/place.ts';

const say = (line: string) => process.stdout.write(`${line}\n`);

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        from: { type: 'string' },
        to: { type: 'string' },
        cpu: { type: 'boolean', default: false },
        force: { type: 'boolean', default: false },
      },
    });
    return values;
  } catch (cause) {
    throw new AppError('CONFIG_INVALID', 'setup:tensorflow takes --from DIR, --to DIR, --cpu and --force.', {
      cause,
    });
  }
}

async function setUp(): Promise<void> {
  const { from, to, cpu, force } = readArguments();
  const folder = to === undefined ? tensorFlowFolder() : resolve(to);
  const present = force || from !== undefined ? undefined : await workingInstallation(folder);
  if (present !== undefined) {
    say(`TensorFlow ${present.version} is installed already and loads. (--force installs it anew.)`);
    return;
  }
  const installed = await installTensorFlow(
    folder,
    from === undefined ? 'downloaded' : 'folder',
    (staging) =>
      from === undefined
        ? downloadTensorFlow(staging, cpu ? 'cpu' : 'gpu', say)
        : placeTensorFlow(staging, resolve(from), say),
  );
  say(`TensorFlow ${installed.version} is installed in ${folder} and loads.`);
  say(installed.usesGpu ? 'It uses the graphics processor.' : 'It uses the processor.');
  if (installed.missing.length > 0) {
    say(`For NVIDIA graphics processors it also needs: ${installed.missing.join(', ')}.`);
  }
}

try {
  await setUp();
} catch (thrown) {
  const { message, action, cause } = toAppError(thrown);
  process.stderr.write(`${message}\n${action}\n`);
  if (process.env['DEBUG'] && cause !== undefined) process.stderr.write(`${String(cause)}\n`);
  process.exitCode = 1;
}
