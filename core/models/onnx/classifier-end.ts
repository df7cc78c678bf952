/** Networks that end in probabilities of classes: the embedding lies before their last layer. */
import type { AppError } from '../../shared/errors.ts';
import { type Network, nodeLabel } from './network.ts';
import type { FileNode } from './onnx-file.ts';
import { invalidFile } from './read.ts';

/** What changes no value, or only its shape. */
const passing = new Set([
  'Identity',
  'Dropout',
  'Cast',
  'Flatten',
  'Reshape',
  'Squeeze',
  'Unsqueeze',
  'Transpose',
]);
const probabilities = new Set(['Softmax', 'LogSoftmax', 'Hardmax']);
const layers = new Set(['Gemm', 'MatMul', 'Conv', 'FusedMatMul', 'FusedGemm', 'FusedConv']);

/** @returns an error that names the value to take instead, or undefined when the network does not end like that */
export function classifierProblem({ nodes, output, label }: Network): AppError | undefined {
  const producers = new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const back = (name: string | undefined, over: (node: FileNode) => boolean): FileNode | undefined => {
    let node = producers.get(name ?? '');
    while (node !== undefined && over(node)) node = producers.get(node.inputs[0] ?? '');
    return node;
  };
  const end = back(output, ({ op }) => passing.has(op));
  if (end === undefined || !probabilities.has(end.op)) return undefined;
  const classifier = back(
    end.inputs[0],
    ({ op }) => passing.has(op) || op === 'Add' || op === 'Mul' || op === 'Div',
  );
  const features = classifier !== undefined && layers.has(classifier.op) ? classifier.inputs[0] : undefined;
  return invalidFile(
    label,
    `its output "${output}" holds probabilities of classes, from ${nodeLabel(end)}, and no embedding`,
    {
      action:
        features === undefined
          ? 'Name the value before the last layer as the embedding (--output); "anneal models inspect" lists what the file holds.'
          : `Take what the last layer reads as the embedding, "${features}" (--output "${features}").`,
    },
  );
}
