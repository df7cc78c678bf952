/** The identity of an imported network: its operators, weights and settings, not the bytes of its file. */
import { createHash, type Hash } from 'node:crypto';
import { canonicalJson } from '../../shared/hash.ts';
import type { HostTensor } from './host-tensor.ts';
import type { Network } from './network.ts';
import type { FileAttribute } from './onnx-file.ts';
import type { Framing } from './specialise.ts';
import { readTensor } from './tensors.ts';

/** Changes when the same file would become another network. */
const formatVersion = 'anneal-onnx-1';

/**
 * SHA-256 over: the version of this rule, opset, settings; each node with its name, operator, attributes and the
 * numbers of its values, in the order of the file; each initializer with its name, shape and decoded values. The
 * same network with its weights inside or beside the file, in raw or typed fields, has the same identity.
 */
export function identityOf(network: Network, framing: Framing): string {
  const hash = createHash('sha256');
  const write = (value: unknown) => hash.update(`${canonicalJson(value)}\n`);
  const numbers = new Map<string, number | string>([['', '']]);
  for (const name of network.tensors.keys()) numbers.set(name, name);
  numbers.set(network.input.name, 0);
  write({
    format: formatVersion,
    opset: network.opset,
    framing: { ...framing, pooling: framing.pooling ?? null },
  });
  for (const node of network.nodes) {
    for (const output of node.outputs) if (output !== '') numbers.set(output, numbers.size);
    write({
      op: [node.domain, node.op, node.name],
      inputs: node.inputs.map((name) => numbers.get(name) ?? null),
      outputs: node.outputs.map((name) => numbers.get(name) ?? null),
    });
    for (const name of [...node.attributes.keys()].sort()) {
      writeAttribute(hash, name, node.attributes.get(name)!, network.label);
    }
  }
  write({ output: numbers.get(network.output) ?? null });
  for (const name of [...network.tensors.keys()].sort()) {
    write({ tensor: name });
    writeTensor(hash, network.tensors.get(name)!);
  }
  return hash.digest('hex');
}

function writeAttribute(hash: Hash, name: string, attribute: FileAttribute, label: string): void {
  if (attribute.kind === 'tensor') {
    hash.update(`${canonicalJson({ attribute: name, kind: 'tensor' })}\n`);
    if (attribute.value.external === undefined) writeTensor(hash, readTensor(attribute.value, label));
    return;
  }
  hash.update(
    `${canonicalJson({ attribute: name, kind: attribute.kind, value: attributeValue(attribute) })}\n`,
  );
}

/** As text: JSON has no integers of 64 bits and no infinity. */
function attributeValue(attribute: FileAttribute): string {
  if (!('value' in attribute)) return '';
  const { value } = attribute;
  return Array.isArray(value) ? JSON.stringify(value.map(String)) : String(value);
}

function writeTensor(hash: Hash, { dtype, dims, data }: HostTensor): void {
  hash.update(`${canonicalJson({ dtype, dims })}\n`);
  hash.update(new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength));
}
