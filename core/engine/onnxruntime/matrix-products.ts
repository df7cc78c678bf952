/** Matrix products in float64 on ONNX Runtime: the processor's own vector instructions, at near peak. */
// The package is CommonJS without names that Node could see: its default export holds them.
import onnxProto, { type onnx } from 'onnx-proto';
import * as ort from 'onnxruntime-node';
import { irVersion, opsetVersion } from '../../graph/encode.ts';
import { createPlainProducts, type MatrixProducts, productSize } from '../../lora/matrix-products.ts';

const { AttributeProto, ModelProto, TensorProto } = onnxProto.onnx;

/** Below this many multiplications a call of the runtime takes longer than the loops. */
const smallestProduct = 30_000;

/**
 * Products on the processor. Sessions are made at the first use, one for each way to transpose, and stay: a few
 * hundred kilobytes in all. Where the runtime cannot be started, plain loops do the work.
 */
export function createOnnxRuntimeProducts(): MatrixProducts {
  const plain = createPlainProducts();
  const sessions = new Map<string, Promise<ort.InferenceSession | null>>();

  function sessionFor(key: string, model: () => Uint8Array): Promise<ort.InferenceSession | null> {
    const known = sessions.get(key);
    if (known !== undefined) return known;
    const starting = startSession(model());
    sessions.set(key, starting);
    return starting;
  }

  return {
    async sumTerms(terms, rows) {
      const { weights, left, right } = terms;
      const count = weights.length;
      if (left.length * right.length < smallestProduct * count) return plain.sumTerms(terms, rows);
      const session = await sessionFor('terms', termsModel);
      if (session === null) return plain.sumTerms(terms, rows);
      const cols = right.length / count;
      const { product } = await session.run({
        weights: new ort.Tensor('float64', weights, [count, 1]),
        left: new ort.Tensor('float32', left, [count, rows]),
        right: new ort.Tensor('float32', right, [count, cols]),
      });
      return { rows, cols, data: product!.data as Float64Array };
    },
    async multiply(x, y, options = {}) {
      const { rows, cols, inner } = productSize(x, y, options);
      const { transposeX = false, transposeY = false } = options;
      if (rows * cols * inner < smallestProduct) return plain.multiply(x, y, options);
      const key = `${transposeX} ${transposeY}`;
      const session = await sessionFor(key, () => productModel(transposeX, transposeY));
      if (session === null) return plain.multiply(x, y, options);
      const { product } = await session.run({
        x: new ort.Tensor('float64', x.data, [x.rows, x.cols]),
        y: new ort.Tensor('float64', y.data, [y.rows, y.cols]),
      });
      return { rows, cols, data: product!.data as Float64Array };
    },
  };
}

async function startSession(model: Uint8Array): Promise<ort.InferenceSession | null> {
  try {
    return await ort.InferenceSession.create(model, {
      executionProviders: ['cpu'],
      logSeverityLevel: 3,
      // Shapes differ from call to call; a plan of memory would be made for each and kept.
      enableMemPattern: false,
      // Threads that wait by spinning would take time from the broker of the same process.
      extra: { session: { intra_op: { allow_spinning: '0' } } },
    });
  } catch {
    return null;
  }
}

const { DOUBLE, FLOAT } = TensorProto.DataType;

/** One Gemm of any size in float64. */
function productModel(transposeX: boolean, transposeY: boolean): Uint8Array {
  return encode({
    inputs: [matrix('x', DOUBLE), matrix('y', DOUBLE)],
    nodes: [gemm('x', 'y', { transA: transposeX, transB: transposeY })],
  });
}

/** Float32 vectors widened, weighted and multiplied: (weights ∘ left)ᵀ · right. */
function termsModel(): Uint8Array {
  return encode({
    inputs: [matrix('weights', DOUBLE), matrix('left', FLOAT), matrix('right', FLOAT)],
    nodes: [
      widened('left', 'wideLeft'),
      widened('right', 'wideRight'),
      { opType: 'Mul', name: 'weigh', input: ['weights', 'wideLeft'], output: ['weighed'] },
      gemm('weighed', 'wideRight', { transA: true, transB: false }),
    ],
  });
}

function matrix(name: string, elemType: number): onnx.IValueInfoProto {
  const dim = [{ dimParam: `${name}Rows` }, { dimParam: `${name}Cols` }];
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

function widened(from: string, to: string): onnx.INodeProto {
  const attribute = [{ name: 'to', type: AttributeProto.AttributeType.INT, i: DOUBLE }];
  return { opType: 'Cast', name: to, input: [from], output: [to], attribute };
}

function gemm(x: string, y: string, flags: { transA: boolean; transB: boolean }): onnx.INodeProto {
  const attribute = Object.entries(flags).map(([name, on]) => ({
    name,
    type: AttributeProto.AttributeType.INT,
    i: on ? 1 : 0,
  }));
  return { opType: 'Gemm', name: 'product', input: [x, y], output: ['product'], attribute };
}

function encode({ inputs, nodes }: { inputs: onnx.IValueInfoProto[]; nodes: onnx.INodeProto[] }): Uint8Array {
  return ModelProto.encode({
    irVersion,
    producerName: 'anneal',
    opsetImport: [{ domain: '', version: opsetVersion }],
    graph: { name: 'product', input: inputs, output: [matrix('product', DOUBLE)], node: nodes },
  }).finish();
}
