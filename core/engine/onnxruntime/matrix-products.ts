/** Matrix products in float64 on ONNX Runtime: the processor's own vector instructions, at near peak. */
import onnxProto from 'onnx-proto';
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
  return {
    async multiply(x, y, options = {}) {
      const { rows, cols, inner } = productSize(x, y, options);
      const { transposeX = false, transposeY = false } = options;
      if (rows * cols * inner < smallestProduct) return plain.multiply(x, y, options);
      const key = `${transposeX} ${transposeY}`;
      let starting = sessions.get(key);
      if (starting === undefined) {
        starting = startSession(transposeX, transposeY);
        sessions.set(key, starting);
      }
      const session = await starting;
      if (session === null) return plain.multiply(x, y, options);
      const feeds = {
        x: new ort.Tensor('float64', x.data, [x.rows, x.cols]),
        y: new ort.Tensor('float64', y.data, [y.rows, y.cols]),
      };
      const { product } = await session.run(feeds);
      return { rows, cols, data: product!.data as Float64Array };
    },
  };
}

async function startSession(transposeX: boolean, transposeY: boolean): Promise<ort.InferenceSession | null> {
  try {
    return await ort.InferenceSession.create(productModel(transposeX, transposeY), {
      executionProviders: ['cpu'],
      logSeverityLevel: 3,
      // Shapes differ from call to call; a plan of memory would be made for each and kept.
      enableMemPattern: false,
      enableCpuMemArena: false,
      // Threads that wait by spinning would take time from the broker of the same process.
      extra: { session: { intra_op: { allow_spinning: '0' } } },
    });
  } catch {
    return null;
  }
}

/** A model of one Gemm of any size in float64. */
function productModel(transposeX: boolean, transposeY: boolean): Uint8Array {
  const matrix = (name: string) => ({
    name,
    type: {
      tensorType: {
        elemType: TensorProto.DataType.DOUBLE,
        shape: { dim: [{ dimParam: `${name}Rows` }, { dimParam: `${name}Cols` }] },
      },
    },
  });
  const flag = (name: string, on: boolean) => ({
    name,
    type: AttributeProto.AttributeType.INT,
    i: on ? 1 : 0,
  });
  return ModelProto.encode({
    irVersion,
    producerName: 'anneal',
    opsetImport: [{ domain: '', version: opsetVersion }],
    graph: {
      name: 'product',
      input: [matrix('x'), matrix('y')],
      output: [matrix('product')],
      node: [
        {
          opType: 'Gemm',
          name: 'product',
          input: ['x', 'y'],
          output: ['product'],
          attribute: [flag('transA', transposeX), flag('transB', transposeY)],
        },
      ],
    },
  }).finish();
}
