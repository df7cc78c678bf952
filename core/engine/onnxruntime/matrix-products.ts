/** Matrix products on ONNX Runtime: the processor's own vector instructions, at near peak. */
// The package is CommonJS without names that Node could see: its default export holds them.
import onnxProto, { type onnx } from 'onnx-proto';
import * as ort from 'onnxruntime-node';
import { irVersion, opsetVersion } from '../../graph/encode.ts';
import { createPlainProducts, type MatrixProducts, productSize } from '../../linalg/matrix-products.ts';

const { AttributeProto, ModelProto, TensorProto } = onnxProto.onnx;

/** Below this many multiplications a call of the runtime takes longer than the loops. */
const smallestProduct = 30_000;

/**
 * Products on the processor. Sessions are made at the first use, one for each kind of product, and stay: a few
 * hundred kilobytes in all. Small products are done by plain loops. A session that does not start is an error: loops
 * in its place would keep a coordinator busy for minutes, and nobody would know why.
 */
export function createOnnxRuntimeProducts(): MatrixProducts {
  const plain = createPlainProducts();
  const sessions = new Map<string, Promise<ort.InferenceSession>>();

  async function run(key: string, model: () => Uint8Array, feeds: ort.InferenceSession.FeedsType) {
    const session = sessions.get(key) ?? startSession(model());
    sessions.set(key, session);
    const { product } = await (await session).run(feeds);
    return product!.data;
  }

  return {
    async sumTerms(terms, rows, onto = null) {
      const { weights, left, right } = terms;
      const count = weights.length;
      if (left.length * right.length < smallestProduct * count) return plain.sumTerms(terms, rows, onto);
      const cols = right.length / count;
      const feeds = {
        weights: new ort.Tensor('float64', weights, [1, count]),
        left: new ort.Tensor('float32', left, [rows, count]),
        right: new ort.Tensor('float32', right, [count, cols]),
      };
      const data =
        onto === null
          ? await run('terms', () => termsModel([]), feeds)
          : await run('terms onto', () => termsModel(['onto']), {
              ...feeds,
              onto: new ort.Tensor('float64', onto.data, [rows, cols]),
            });
      return { rows, cols, data: data as Float64Array };
    },
    async multiply(x, y, options = {}) {
      const { rows, cols, inner } = productSize(x, y, options);
      const { transposeX = false, transposeY = false } = options;
      if (rows * cols * inner < smallestProduct) return plain.multiply(x, y, options);
      const data = await run(
        `${transposeX} ${transposeY}`,
        () => productModel(DOUBLE, { transA: transposeX, transB: transposeY }),
        {
          x: new ort.Tensor('float64', x.data, [x.rows, x.cols]),
          y: new ort.Tensor('float64', y.data, [y.rows, y.cols]),
        },
      );
      return { rows, cols, data: data as Float64Array };
    },
    async multiplyRoughly(x, y) {
      const { rows, cols, inner } = productSize(x, y);
      if (rows * cols * inner < smallestProduct) return plain.multiplyRoughly(x, y);
      const data = await run('rough', () => productModel(FLOAT, untransposed), {
        x: new ort.Tensor('float32', x.data, [x.rows, x.cols]),
        y: new ort.Tensor('float32', y.data, [y.rows, y.cols]),
      });
      return { rows, cols, data: data as Float32Array };
    },
  };
}

function startSession(model: Uint8Array): Promise<ort.InferenceSession> {
  return ort.InferenceSession.create(model, {
    executionProviders: ['cpu'],
    logSeverityLevel: 3,
    // Shapes differ from call to call; a plan of memory would be made for each and kept.
    enableMemPattern: false,
    // Most products are too small to be shared among threads: a second one costs more processor time than it saves
    // of the clock's, and a coordinator's broker wants a core, too.
    intraOpNumThreads: 1,
  });
}

const { DOUBLE, FLOAT } = TensorProto.DataType;
const untransposed = { transA: false, transB: false };

/** One Gemm of any size. */
function productModel(type: number, flags: { transA: boolean; transB: boolean }): Uint8Array {
  return encode(type, {
    inputs: [matrix('x', type), matrix('y', type)],
    nodes: [gemm(['x', 'y'], flags)],
  });
}

/** Float32 vectors widened, weighted and multiplied: left · weights · right, and what it is added to, if anything. */
function termsModel(onto: readonly string[]): Uint8Array {
  return encode(DOUBLE, {
    inputs: [
      ...[matrix('weights', DOUBLE), matrix('left', FLOAT), matrix('right', FLOAT)],
      ...onto.map((name) => matrix(name, DOUBLE)),
    ],
    nodes: [
      widened('left', 'wideLeft'),
      widened('right', 'wideRight'),
      { opType: 'Mul', name: 'weigh', input: ['weights', 'wideLeft'], output: ['weighed'] },
      gemm(['weighed', 'wideRight', ...onto], untransposed),
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

function gemm(input: string[], flags: { transA: boolean; transB: boolean }): onnx.INodeProto {
  const attribute = Object.entries(flags).map(([name, on]) => ({
    name,
    type: AttributeProto.AttributeType.INT,
    i: on ? 1 : 0,
  }));
  return { opType: 'Gemm', name: 'product', input, output: ['product'], attribute };
}

function encode(
  type: number,
  { inputs, nodes }: { inputs: onnx.IValueInfoProto[]; nodes: onnx.INodeProto[] },
): Uint8Array {
  return ModelProto.encode({
    irVersion,
    producerName: 'anneal',
    opsetImport: [{ domain: '', version: opsetVersion }],
    graph: { name: 'product', input: inputs, output: [matrix('product', type)], node: nodes },
  }).finish();
}
