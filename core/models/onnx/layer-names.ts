/** What people call a layer, from the names that exporters leave in a file. */

/** Names that an exporter made up: `onnx::MatMul_123`, `val_12`, `/blocks.0/Transpose_output_0`, `1234`. */
const madeUp = /^(onnx::|\/|val_\d|const|initializer|arg\d|_*\d+$|t\d+$|graph_|_val|new_)/i;
const weightEnding = /([./_](weight|kernel|w|W|gamma))(_quantized|_q|_fp16|_dequantized)?$/;
const tensorflowEnding =
  /(\/(Conv2D|depthwise|separable_conv2d|MatMul|ReadVariableOp|BiasAdd|kernel|read))+$/;
const operatorName = /^(Conv|ConvTranspose|Gemm|MatMul|FusedConv|FusedMatMul|PRelu|Mul|Add)(_\d+)?$/;

/**
 * @param names of the initializers that hold (or were turned into) weight and bias; '' for none
 * @param node name of the node that uses them
 * @param fallback used when none says anything
 * @returns letters, digits, `_`, `-` and `.` only; for instance `blocks.0.attn.qkv`
 */
export function moduleNameOf(
  { weight, bias }: { readonly weight: string; readonly bias: string },
  node: string,
  fallback: string,
): string {
  // Exporters that turn a weight give it another name, but leave the bias its own.
  const beside = /[._/]bias$/.test(bias) ? fromWeight(bias.slice(0, -'.bias'.length)) : '';
  return fromWeight(weight) || beside || fromNode(node) || fallback;
}

/** The module that a weight or a bias of a file belongs to by its own name; '' when that says nothing. */
export function moduleOfParameter(stem: string): string {
  if (stem === '' || madeUp.test(stem) || /fusion|folded|fused/i.test(stem)) return '';
  const bare = stem.replace(/:\d+$/, '').replace(tensorflowEnding, '');
  const name = bare.replace(weightEnding, '').replace(/([./_](bias|beta|b|B))$/, '');
  // A name that ends in neither word names a value of its own, unless the file's converter has no such words.
  return name === stem && !/[./_]/.test(stem) ? '' : clean(name.replaceAll('/', '.'));
}

/** Name of a weight that belongs to no layer: its own, or after the node that uses it when an exporter made it up. */
export function parameterNameOf(stem: string, node: string, isBias: boolean): string {
  if (stem !== '' && !madeUp.test(stem)) return clean(stem);
  const owner = fromNode(node);
  return owner === '' ? clean(stem) : `${owner}.${isBias ? 'bias' : 'weight'}`;
}

function fromWeight(stem: string): string {
  if (stem === '' || madeUp.test(stem)) return '';
  return clean(
    stem.replace(/:\d+$/, '').replace(tensorflowEnding, '').replace(weightEnding, '').replaceAll('/', '.'),
  );
}

/** `/layer1/layer1.0/conv1/Conv` says `layer1.0.conv1`: PyTorch repeats the names of containers. */
function fromNode(node: string): string {
  const parts: string[] = [];
  for (const part of node.split('/').filter((text) => text !== '')) {
    const last = parts.at(-1);
    if (last !== undefined && part.startsWith(`${last}.`)) parts.pop();
    parts.push(part);
  }
  if (parts.length > 1 && operatorName.test(parts.at(-1)!)) parts.pop();
  const name = clean(parts.join('.'));
  return parts.length === 1 && operatorName.test(parts[0]!) ? name.toLowerCase() : name;
}

/** Letters, digits, `_`, `-` and single full stops inside. */
export function clean(name: string): string {
  return name
    .replace(/[^\w.-]+/g, '_')
    .replace(/\.{2,}/g, '.')
    .replace(/^[._]+|[._]+$/g, '')
    .slice(0, 200);
}

/** A name that is not taken yet; takes it. */
export function unique(name: string, taken: Set<string>): string {
  let free = name;
  for (let count = 2; taken.has(free); count++) free = `${name}_${count}`;
  taken.add(free);
  return free;
}

/** Words before a number that stand for a repeated part of a network. */
const container =
  'blocks?|layers?\\d*|stages?\\d*|features|body|units?|encoder|trunk|resblocks?|h|net|backbone';
const dotted = new RegExp(`^(?:.*?\\.)?(?:(?:${container})\\.\\d+\\.?)+`);
/** MXNet: `stage1_unit2_conv1`. */
const underlined = /^stage\d+_unit\d+/;

/** The repeated part that a layer belongs to, or the layer's own parent. */
export function blockKeyOf(module: string): string {
  const found = dotted.exec(module)?.[0] ?? underlined.exec(module)?.[0];
  if (found !== undefined) return found.replace(/\.$/, '');
  return module;
}

const attentionPart =
  /^(q|v|qkv|query|value|q_proj|v_proj|qkv_proj|in_proj|to_q|to_v|to_qkv|query_key_value|linear_q|linear_v)$/i;

/** A query, value or joint projection of an attention. */
export function isAttention(module: string): boolean {
  const parts = module.split('.');
  return /attn|attention/i.test(module) && attentionPart.test(parts.at(-1) ?? '');
}
