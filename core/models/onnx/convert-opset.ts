/**
 * Nodes of opsets 7 to 10 in the form of opset 11, as far as the operator changed in between; what changed later the rules of
 * normalise.ts take in both forms. Values that were attributes become constant inputs.
 * Source: https://github.com/onnx/onnx/tree/main/onnx/version_converter/adapters and the operator pages
 */
import { floatAttribute, intsAttribute, stringAttribute } from './attributes.ts';
import { fromNumbers, type HostTensor } from './host-tensor.ts';
import type { FileAttribute, FileNode } from './onnx-file.ts';

/** Gives a constant a name in the file and returns it. */
export type AddConstant = (tensor: HostTensor) => string;

interface Adapter {
  /** First opset that needs it no more. */
  readonly until: number;
  readonly convert: (node: FileNode, add: AddConstant) => FileNode;
}

const text = (value: string): FileAttribute => ({ kind: 'string', value });

function without(node: FileNode, ...names: string[]): Map<string, FileAttribute> {
  return new Map([...node.attributes].filter(([name]) => !names.includes(name)));
}

const integers = (values: readonly number[]) => fromNumbers('int64', [values.length], values);
const scalar = (value: number) => fromNumbers('float32', [], [value]);

/** Bounds were attributes, and all of float32 without them. */
const clip: Adapter = {
  until: 11,
  convert: (node, add) => {
    const bound = (name: string) =>
      node.attributes.has(name) ? add(scalar(floatAttribute(node.attributes, name, 0))) : '';
    return {
      ...node,
      inputs: [node.inputs[0] ?? '', bound('min'), bound('max')],
      attributes: without(node, 'min', 'max'),
    };
  },
};

const slice: Adapter = {
  until: 10,
  convert: (node, add) => {
    const [starts = [], ends = [], axes] = ['starts', 'ends', 'axes'].map((name) =>
      intsAttribute(node.attributes, name),
    );
    const inputs = [node.inputs[0] ?? '', add(integers(starts)), add(integers(ends))];
    if (axes !== undefined) inputs.push(add(integers(axes)));
    return { ...node, inputs, attributes: without(node, 'starts', 'ends', 'axes') };
  },
};

const pad: Adapter = {
  until: 11,
  convert: (node, add) => ({
    ...node,
    inputs: [
      node.inputs[0] ?? '',
      add(integers(intsAttribute(node.attributes, 'pads') ?? [])),
      add(scalar(floatAttribute(node.attributes, 'value', 0))),
    ],
    attributes: without(node, 'pads', 'value'),
  }),
};

/** Both meant places of the input by scale alone. */
function asymmetric(node: FileNode, scales: string): FileNode {
  const mode = stringAttribute(node.attributes, 'mode', 'nearest');
  return {
    ...node,
    op: 'Resize',
    inputs: [node.inputs[0] ?? '', '', scales],
    attributes: new Map([
      ['mode', text(mode === 'bilinear' ? 'linear' : mode)],
      ['coordinate_transformation_mode', text('asymmetric')],
      ['nearest_mode', text('simple')],
    ]),
  };
}

const upsample: Adapter = {
  until: Number.POSITIVE_INFINITY,
  convert: (node, add) => {
    const given = node.attributes.get('scales');
    const scales =
      given?.kind === 'floats'
        ? add(fromNumbers('float32', [given.value.length], given.value))
        : (node.inputs[1] ?? '');
    return asymmetric(node, scales);
  },
};

const resize: Adapter = { until: 11, convert: (node) => asymmetric(node, node.inputs[1] ?? '') };

const adapters: Readonly<Record<string, Adapter>> = {
  Clip: clip,
  Slice: slice,
  Pad: pad,
  Upsample: upsample,
  Resize: resize,
};

/** Whether {@link convertNode} changes the node. */
export function isConverted({ op, domain }: FileNode, opset: number): boolean {
  return domain === '' && Object.hasOwn(adapters, op) && opset < adapters[op]!.until;
}

/** The node in the form of opset 11 where its opset is older; otherwise the node itself. */
export function convertNode(node: FileNode, opset: number, add: AddConstant): FileNode {
  return isConverted(node, opset) ? adapters[node.op]!.convert(node, add) : node;
}
