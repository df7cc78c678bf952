/** The bookkeeping under GraphBuilder: names, types, constants, topological order. */
import { AppError } from '../shared/errors.ts';
import { type DataType, elementCount, type Tensor } from '../shared/tensor.ts';
import { plural } from '../shared/text.ts';
import type { Attributes } from './attributes.ts';
import type { Graph, GraphNode, ValueType } from './graph.ts';

/** Constants up to this many values are shared when equal (axes, shapes, scalars). */
const sharedConstantLimit = 64;

function constantKey({ dtype, dims, data }: Tensor): string {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return `${dtype}[${dims.join()}]${bytes.toString('base64')}`;
}

export abstract class GraphWriter {
  protected readonly inputNames: string[] = [];
  protected readonly outputNames: string[] = [];
  protected readonly nodeList: GraphNode[] = [];
  protected readonly constants = new Map<string, Tensor>();
  protected readonly types = new Map<string, ValueType>();
  private readonly sharedConstants = new Map<string, string>();
  private readonly nodeNames = new Set<string>();
  private readonly reserved = new Set<string>();
  private readonly counters = new Map<string, number>();

  /** A graph input. @throws AppError CONFIG_INVALID when the name is taken */
  input(name: string, dtype: DataType, dims: readonly number[]): string {
    this.declareValue(name, { dtype, dims });
    this.inputNames.push(name);
    return name;
  }

  /** An initializer. Without a name it gets one of its own, and small equal constants are shared. */
  constant(tensor: Tensor, name?: string): string {
    if (name === undefined && tensor.data.length <= sharedConstantLimit) {
      const key = constantKey(tensor);
      const known = this.sharedConstants.get(key);
      if (known !== undefined) return known;
      const created = this.addConstant(tensor, this.freshName('constant'));
      this.sharedConstants.set(key, created);
      return created;
    }
    return this.addConstant(tensor, name ?? this.freshName('constant'));
  }

  /** A float32 scalar constant. */
  scalar(value: number): string {
    return this.constant({ dtype: 'float32', dims: [], data: Float32Array.of(value) });
  }

  /** An int64 vector constant, as shapes and axes are passed. */
  integers(values: readonly number[]): string {
    return this.constant({
      dtype: 'int64',
      dims: [values.length],
      data: BigInt64Array.from(values, (value) => BigInt(value)),
    });
  }

  /**
   * Appends one operator, or those that it is made of; the types of its outputs are inferred.
   * @param inputs value names; '' for an absent optional input
   * @returns the names of its outputs
   * @throws AppError OPERATOR_UNSUPPORTED or SHAPE_MISMATCH
   */
  abstract append(
    op: string,
    inputs: readonly string[],
    attributes?: Attributes,
    outputCount?: number,
  ): string[];

  /** {@link append} for operators of one output. */
  append1(op: string, inputs: readonly string[], attributes: Attributes = {}): string {
    return this.append(op, inputs, attributes)[0]!;
  }

  /**
   * Asks an operator that is in the graph already for its further, optional outputs.
   * @param types of the outputs after those that it has
   * @returns the names of all its outputs; a second call gives the same
   */
  extendOutputs(node: GraphNode, types: readonly ValueType[]): readonly string[] {
    const place = this.nodeList.findIndex(({ name }) => name === node.name);
    const current = this.nodeList[place]!;
    if (current.outputs.length > 1) return current.outputs;
    const further = types.map((type, index) => {
      const name = `${node.name}:${index + 1}`;
      this.declareValue(name, type);
      return name;
    });
    const outputs = [...current.outputs, ...further];
    this.nodeList[place] = { ...current, outputs };
    return outputs;
  }

  /** Keeps names free for {@link copyNode}: no value or node gets one of them by itself. */
  reserve(names: Iterable<string>): void {
    for (const name of names) this.reserved.add(name);
  }

  /** Appends a node of another graph as it is, its output names and types included. */
  copyNode(node: GraphNode, types: Graph['types']): void {
    for (const input of node.inputs) if (input !== '') this.typeOf(input);
    for (const output of node.outputs) this.declareValue(output, types.get(output)!);
    this.nodeNames.add(node.name);
    this.nodeList.push(node);
  }

  /** Marks a value as graph output, under another name when `as` is given. */
  output(value: string, as?: string): string {
    let name = value;
    if (as !== undefined && as !== value) {
      const node = { op: 'Identity', name: this.freshName('identity'), inputs: [value], outputs: [as] };
      this.copyNode({ ...node, attributes: {} }, new Map([[as, this.typeOf(value)]]));
      name = as;
    }
    this.typeOf(name);
    if (!this.outputNames.includes(name)) this.outputNames.push(name);
    return name;
  }

  /** @throws AppError CONFIG_INVALID when there is no such value */
  typeOf(value: string): ValueType {
    const type = this.types.get(value);
    if (type === undefined) throw new AppError('CONFIG_INVALID', `The graph has no value named "${value}".`);
    return type;
  }

  dimsOf(value: string): readonly number[] {
    return this.typeOf(value).dims;
  }

  /** The tensor of an initializer, or undefined for anything computed or fed. */
  constantOf(value: string): Tensor | undefined {
    return this.constants.get(value);
  }

  has(value: string): boolean {
    return this.types.has(value);
  }

  /** Nodes so far, in topological order. */
  get nodes(): readonly GraphNode[] {
    return this.nodeList;
  }

  /** A graph of what was built; the builder may go on afterwards. Unused initializers are left out. */
  build(): Graph {
    const used = new Set<string>(this.outputNames);
    for (const node of this.nodeList) for (const input of node.inputs) used.add(input);
    return {
      inputs: [...this.inputNames],
      outputs: [...this.outputNames],
      nodes: [...this.nodeList],
      initializers: new Map([...this.constants].filter(([name]) => used.has(name))),
      types: new Map(this.types),
    };
  }

  protected load(graph: Graph): void {
    this.inputNames.push(...graph.inputs);
    this.outputNames.push(...graph.outputs);
    this.nodeList.push(...graph.nodes);
    for (const node of graph.nodes) this.nodeNames.add(node.name);
    for (const [name, tensor] of graph.initializers) this.constants.set(name, tensor);
    for (const [name, type] of graph.types) this.types.set(name, type);
  }

  protected addNode(node: Omit<GraphNode, 'outputs'>, types: readonly ValueType[]): string[] {
    const { name, inputs } = node;
    const outputs = types.map((_, index) => (types.length === 1 ? name : `${name}:${index}`));
    for (const [index, output] of outputs.entries()) this.declareValue(output, types[index]!);
    this.nodeNames.add(name);
    this.nodeList.push({ ...node, inputs: [...inputs], outputs });
    return outputs;
  }

  private addConstant(tensor: Tensor, name: string): string {
    if (tensor.data.length !== elementCount(tensor.dims)) {
      throw new AppError(
        'SHAPE_MISMATCH',
        `The constant "${name}" has ${plural(tensor.data.length, 'value')} for shape [${tensor.dims.join(', ')}].`,
      );
    }
    this.declareValue(name, { dtype: tensor.dtype, dims: tensor.dims });
    this.constants.set(name, tensor);
    return name;
  }

  private declareValue(name: string, type: ValueType): void {
    if (name === '' || this.types.has(name)) {
      throw new AppError('CONFIG_INVALID', `The graph already has a value named "${name}".`);
    }
    this.types.set(name, { dtype: type.dtype, dims: [...type.dims] });
  }

  protected freshName(stem: string): string {
    let count = this.counters.get(stem) ?? 0;
    let name: string;
    do name = `${stem}_${count++}`;
    while (
      this.reserved.has(name) ||
      this.types.has(name) ||
      this.types.has(`${name}:0`) ||
      this.nodeNames.has(name)
    );
    this.counters.set(stem, count);
    return name;
  }
}
