/** Takes a libtensorflow that is there already and builds the addon of tfjs-node against it (Linux). */
import { constants, existsSync } from 'node:fs';
import { copyFile, mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../../core/process/child-process.ts';
import { AppError } from '../../core/shared/errors.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const tfjsPackage = join(checkout, 'node_modules/@tensorflow/tfjs-node-gpu');
/** The Node-API version of the addon; every Node since 12.22 offers it. */
const nodeApiVersion = 8;

/** By the names that the linker looks for: file names under which the library is found. */
const libraryNames: Readonly<Record<string, readonly string[]>> = {
  'libtensorflow.so': ['libtensorflow.so.2', 'libtensorflow_cc.so.2'],
  'libtensorflow_framework.so': ['libtensorflow_framework.so.2'],
};

/** The official archive has lib/ and include/; a Python wheel has the libraries beside include/. */
const libraryFolders = ['lib', '.', 'tensorflow'];
const includeFolders = ['include', 'tensorflow/include', '../include'];
const includeProof = 'tensorflow/c/eager/c_api.h';

/**
 * @param staging empty folder of the new installation
 * @param from folder of libtensorflow 2: the libraries and the headers of its C interface
 * @returns the addon's path inside `staging`
 * @throws AppError DEVICE_UNAVAILABLE naming what is missing
 */
export async function placeTensorFlow(
  staging: string,
  from: string,
  say: (line: string) => void,
): Promise<string> {
  if (process.platform !== 'linux') {
    throw new AppError('DEVICE_UNAVAILABLE', 'A libtensorflow of one’s own can be used on Linux only.', {
      action: 'Run "npm run setup:tensorflow" without --from.',
    });
  }
  const include = findInclude(from);
  const libraries = join(staging, 'deps/lib');
  await mkdir(libraries, { recursive: true });
  for (const [linkName, names] of Object.entries(libraryNames)) {
    const file = findLibrary(from, names);
    const name = names.find((candidate) => file.endsWith(candidate))!;
    say(`Copying ${name}.`);
    await copyFile(file, join(libraries, name), constants.COPYFILE_FICLONE);
    await symlink(name, join(libraries, linkName));
  }
  say('Building the addon.');
  return buildAddon(staging, include);
}

function findLibrary(from: string, names: readonly string[]): string {
  for (const name of names) {
    for (const folder of libraryFolders) {
      const file = join(from, folder, name);
      if (existsSync(file)) return file;
    }
  }
  throw new AppError(
    'DEVICE_UNAVAILABLE',
    `There is no ${names.join(' or ')} in the folder given with --from.`,
    {
      action: 'Name the folder of libtensorflow 2, or of the Python package "tensorflow", with --from.',
    },
  );
}

function findInclude(from: string): string {
  for (const folder of includeFolders) {
    if (existsSync(join(from, folder, includeProof))) return join(from, folder);
  }
  throw new AppError(
    'DEVICE_UNAVAILABLE',
    `There is no include/${includeProof} in the folder given with --from.`,
    {
      action: 'Unpack the headers of libtensorflow beside its libraries.',
    },
  );
}

/** Headers of Node: of the Node that npm installed, of the one that runs, or of the system. */
function nodeHeaders(): string {
  const folders = [
    join(checkout, `node_modules/node-linux-${process.arch}/include/node`),
    join(dirname(process.execPath), '../include/node'),
    '/usr/include/node',
  ];
  const found = folders.find((folder) => existsSync(join(folder, 'node_api.h')));
  if (found !== undefined) return found;
  throw new AppError('DEVICE_UNAVAILABLE', 'The addon cannot be built: the headers of Node are missing.', {
    action: 'Run "npm ci" without --omit=optional; it installs a Node with its headers.',
  });
}

async function buildAddon(staging: string, include: string): Promise<string> {
  const addon = `lib/napi-v${nodeApiVersion}/tfjs_binding.node`;
  await mkdir(dirname(join(staging, addon)), { recursive: true });
  const compiler = process.env['CXX'] || 'c++';
  const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => join(tfjsPackage, 'binding', name));
  const result = await runProgram(compiler, [
    ...[
      '-std=c++17',
      '-O2',
      '-fPIC',
      '-shared',
      `-DNAPI_VERSION=${nodeApiVersion}`,
      '-DBUILDING_NODE_EXTENSION',
    ],
    ...[nodeHeaders(), tfjsPackage, include].map((folder) => `-I${folder}`),
    ...sources,
    ...[
      '-o',
      join(staging, addon),
      `-L${join(staging, 'deps/lib')}`,
      '-ltensorflow',
      '-ltensorflow_framework',
    ],
    // The libraries lie where the package's own layout has them, so the addon finds them when the folder moves.
    '-Wl,-rpath,$ORIGIN/../../deps/lib',
  ]);
  if (result.exitCode === 0) return addon;
  if (result.code === 'ENOENT') {
    throw new AppError(
      'DEVICE_UNAVAILABLE',
      `The addon cannot be built: there is no compiler "${compiler}".`,
      {
        action: 'Install g++ (Debian: apt-get install g++), or name a C++ compiler with CXX.',
      },
    );
  }
  throw new AppError('DEVICE_UNAVAILABLE', 'The addon could not be built against this libtensorflow.', {
    action: 'Use libtensorflow 2.9 or newer with its own headers. DEBUG=1 shows what the compiler said.',
    cause: result.stderr,
  });
}
