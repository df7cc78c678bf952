/**
 * Activations that a file rounds to whole numbers and back. Only the pair has a meaning for training: what it lets through is kept
 * (the range of the numbers, which may stand for a ReLU), the rounding is left out.
 */
import { NodeProblem } from './attributes.ts';
import { numbersOf } from './host-tensor.ts';
import { type Computed, computed, type NodeContext, type NodeRule } from './value.ts';

type Grid = NonNullable<Computed['grid']>;

/** @throws NodeProblem for scales by channel, which activations do not have */
function gridOf(context: NodeContext): Grid {
  const [scale, zero] = [context.known(1), context.known(2)];
  if (scale?.data.length !== 1 || (zero !== undefined && zero.data.length !== 1)) {
    throw new NodeProblem('unsupported', 'rounds an activation with more than one scale');
  }
  return { scale: numbersOf(scale)[0]!, zero: zero === undefined ? 0 : numbersOf(zero)[0]! };
}

/** UINT8 unless the zero point is said to be signed: its type is lost, but not that it is beyond the other's range. */
export const quantize: NodeRule = (context) => {
  const { builder } = context;
  const { scale, zero } = gridOf(context);
  const type = context.elementTypeOf(2);
  const [low, high] =
    type === 'INT8'
      ? [-128, 127]
      : type === undefined || type === 'UINT8'
        ? [0, 255]
        : [undefined, undefined];
  if (low === undefined || high === undefined)
    throw new NodeProblem('unsupported', `rounds an activation to ${type}`);
  const bounds = [(low - zero) * scale, (high - zero) * scale].map((bound) => builder.scalar(bound));
  const clipped = builder.append1('Clip', [context.read(0), ...bounds]);
  return [{ ...computed(clipped), grid: { scale, zero } }];
};

/** Of an activation: {@link quantize} has left it in its own unit. */
export const dequantize: NodeRule = (context) => {
  const value = context.input(0);
  if (value.kind === 'known') throw new NodeProblem('unsupported', 'has scales that depend on the image');
  const read = gridOf(context);
  const written = value.grid ?? read;
  if (written.scale === read.scale && written.zero === read.zero) return [computed(value.name)];
  const { builder } = context;
  const scaled = builder.mul(value.name, builder.scalar(read.scale / written.scale));
  return [computed(builder.add(scaled, builder.scalar((written.zero - read.zero) * read.scale)))];
};
