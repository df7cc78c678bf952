// The import rule of docs/architecture.md, as a lint: imports point downwards only, and not sideways either.
const levels = [
  ['shared'],
  ['config', 'process'],
  ['linalg', 'graph', 'store', 'evaluation'],
  ['lora'],
  ['models'],
  ['strategy', 'consent', 'people'],
  ['data'],
  ['engine', 'transport'],
  ['enrolment', 'policy'],
  ['site', 'coordinator', 'evidence'],
  ['rights'],
  ['backup'],
  ['simulation', 'api'],
  ['agent'],
  ['cli'],
];
const rules = levels.flatMap((names, level) => {
  const above = levels.slice(level + 1).flat();
  return names.flatMap((name) => {
    const barred = [...names.filter((other) => other !== name), ...above];
    if (barred.length === 0) return [];
    return [
      {
        name: `core/${name} imports nothing above it or beside it`,
        severity: 'error',
        from: { path: `^core/${name}/` },
        to: { path: `^core/(${barred.join('|')})/` },
      },
    ];
  });
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
      name: 'a coordinator computes with what it is given',
      severity: 'error',
      from: { path: '^core/coordinator/' },
      to: { path: '^core/engine/' },
    },
    {
      // The settings of a run and their words are data: the form is made from them.
      name: 'the renderer imports types of core only, and values of core/config',
      severity: 'error',
      from: { path: '^renderer/' },
      to: { path: '^(core|electron)/', pathNot: '^core/config/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'core/config is pure',
      severity: 'error',
      from: { path: '^core/config/' },
      to: { pathNot: '^core/(config|shared)/|node_modules/zod/' },
    },
    {
      name: 'one file alone imports ONNX Runtime',
      severity: 'error',
      // The import of a model has it compute the constants of a file, for which it needs no device.
      from: {
        path: '^(core|electron|renderer)/',
        pathNot: '^core/(engine/onnxruntime/|models/onnx/run-constants\\.ts)',
      },
      to: { path: 'node_modules/onnxruntime-node' },
    },
    {
      name: 'one folder alone computes with TensorFlow.js',
      severity: 'error',
      from: { path: '^(core|electron|renderer)/', pathNot: '^core/engine/tensorflow/' },
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
