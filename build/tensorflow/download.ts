/**
 * Fetches libtensorflow the official way: the install script of @tensorflow/tfjs-node-gpu, which npm does not
 * run here (ignore-scripts), on a copy of the package. It loads the library and a ready addon, or builds one.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, rename, rm, symlink } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../../core/process/child-process.ts';
import { AppError } from '../../core/shared/errors.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const packageFolder = join(checkout, 'node_modules/@tensorflow/tfjs-node-gpu');
/** What the script needs of the package. */
const copiedParts = ['package.json', 'binding.gyp', 'binding', 'scripts'];

/**
 * @param staging empty folder of the new installation
 * @param variant `gpu` also works without a graphics processor, but is several times larger
 * @returns the addon's path inside `staging`
 * @throws AppError DEVICE_UNAVAILABLE when it cannot be fetched or built
 */
export async function downloadTensorFlow(
  staging: string,
  variant: 'cpu' | 'gpu',
  say: (line: string) => void,
): Promise<string> {
  if (!existsSync(packageFolder)) {
    throw new AppError('DEVICE_UNAVAILABLE', 'The package @tensorflow/tfjs-node-gpu is not installed.', {
      action: 'Run "npm ci" first.',
    });
  }
  const work = join(staging, 'work');
  const copy = join(work, 'package');
  await mkdir(copy, { recursive: true });
  for (const part of copiedParts) await cp(join(packageFolder, part), join(copy, part), { recursive: true });
  // The script looks for the packages that it needs from its own folder upwards.
  await symlink(join(checkout, 'node_modules'), join(work, 'node_modules'), 'junction');
  say(`Fetching libtensorflow (${variant}); this takes minutes.`);
  const result = await runProgram(process.execPath, ['scripts/install.js', variant, 'download'], {
    all: true,
    cwd: copy,
    env: scriptEnvironment(),
  });
  const addon = result.exitCode === 0 ? await findAddon(copy) : undefined;
  if (addon === undefined || !existsSync(join(copy, 'deps/lib'))) throw failure(result.all);
  await rename(join(copy, 'deps'), join(staging, 'deps'));
  await rename(join(copy, 'lib'), join(staging, 'lib'));
  // The headers were for building the addon.
  for (const done of [work, join(staging, 'deps/include')]) await rm(done, { recursive: true, force: true });
  return addon;
}

function scriptEnvironment(): NodeJS.ProcessEnv {
  const headers = join(checkout, `node_modules/node-${process.platform}-${process.arch}`);
  const tools = join(checkout, 'node_modules/.bin');
  return {
    ...process.env,
    PATH: `${tools}${delimiter}${process.env['PATH'] ?? ''}`,
    // Where no ready addon exists, node-gyp builds one; it need not fetch headers that are here.
    ...(existsSync(join(headers, 'include/node/node_api.h')) ? { npm_config_nodedir: headers } : {}),
  };
}

async function findAddon(copy: string): Promise<string | undefined> {
  const folder = join(copy, 'lib');
  const versions = existsSync(folder) ? await readdir(folder) : [];
  return versions
    .map((version) => `lib/${version}/tfjs_binding.node`)
    .find((addon) => existsSync(join(copy, addon)));
}

function failure(output: string): AppError {
  if (
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|CERT_|socket hang up/.test(
      output,
    )
  ) {
    return new AppError(
      'DEVICE_UNAVAILABLE',
      'libtensorflow could not be fetched: there is no way to its server.',
      {
        action:
          'Check the network and HTTPS_PROXY, or take a libtensorflow that you have: npm run setup:tensorflow -- --from DIR. Nothing was changed.',
        cause: output,
      },
    );
  }
  return new AppError('DEVICE_UNAVAILABLE', 'The install script of @tensorflow/tfjs-node-gpu failed.', {
    action: 'DEBUG=1 shows what it said. Nothing was changed.',
    cause: output,
  });
}
