// The import rule of docs/architecture.md, as a lint: imports point downwards only.
const layers = [
  ['shared'],
  ['config', 'graph', 'linalg', 'process', 'store'],
  ['evaluation', 'lora'],
  ['models'],
  ['consent', 'data', 'engine', 'strategy', 'transport', 'enrolment'],
  ['site', 'coordinator', 'simulation'],
  ['api'],
  ['agent'],
  ['cli'],
];
const rules = layers.flatMap((names, level) => {
  const above = layers.slice(level + 1).flat();
  if (above.length === 0) return [];
  return [
    {
      name: `core/${names.join('|')} imports nothing above it`,
      severity: 'error',
      from: { path: `^core/(${names.join('|')})/` },
      to: { path: `^core/(${above.join('|')})/` },
    },
  ];
});
module.exports = {
  forbidden: [
    ...rules,
    {
      name: 'no cycles',
      severity: 'error',
      from: { path: '^(core|electron|renderer)/' },
      to: { circular: true },
    },
    {
      name: 'core knows neither Electron nor the screens',
      severity: 'error',
      from: { path: '^core/' },
      to: { path: '(^electron/|^renderer/|node_modules/electron/|^electron$|node_modules/react)' },
    },
    {
      name: 'the renderer imports types of core only',
      severity: 'error',
      from: { path: '^renderer/' },
      to: { path: '^(core|electron)/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'one file alone imports ONNX Runtime',
      severity: 'error',
      from: { path: '^(core|electron|renderer)/', pathNot: '^core/engine/onnxruntime/' },
      to: { path: 'node_modules/onnxruntime-node' },
    },
    {
      // core/data finds faces with face-api, which runs on TensorFlow.js too.
      name: 'one folder alone computes with TensorFlow.js',
      severity: 'error',
      from: { path: '^(core|electron|renderer)/', pathNot: '^core/(engine/tensorflow|data)/' },
      to: { path: 'node_modules/@tensorflow/' },
    },
    {
      name: 'the product does not import tests',
      severity: 'error',
      from: { path: '^(core|electron|renderer|build)/' },
      to: { path: '^test/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.tsx', '.js', '.cjs', '.mjs'] },
  },
};
