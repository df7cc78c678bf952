/** Activations as products of simpler ones. */
import { floatOf, integerOf } from '../attributes.ts';
import { type CompositeRequest, constantNumbers, inputName, unsupported } from './composite-rule.ts';

/** x · max(0, min(1, x / 6 + 1 / 2)). Source: Howard et al. 2019 (MobileNetV3). */
export function hardSwish(request: CompositeRequest): string[] {
  const { builder } = request;
  const x = inputName(request, 0);
  return [
    builder.mul(x, builder.append1('HardSigmoid', [x], { alpha: { float: 1 / 6 }, beta: { float: 0.5 } })),
  ];
}

/** x · tanh(log(1 + exp x)). Source: Misra 2019. */
export function mish(request: CompositeRequest): string[] {
  const { builder } = request;
  const x = inputName(request, 0);
  return [builder.mul(x, builder.tanh(builder.softplus(x)))];
}

/** gamma · Elu(x; alpha). Source: Klambauer et al. 2017; the defaults are those of the ONNX page. */
export function selu(request: CompositeRequest): string[] {
  const { builder, attributes } = request;
  const alpha = floatOf(attributes, 'alpha', 1.6732632423543772);
  const gamma = floatOf(attributes, 'gamma', 1.0507009873554805);
  const elu = builder.append1('Elu', [inputName(request, 0)], { alpha: { float: alpha } });
  return [builder.mul(elu, builder.scalar(gamma))];
}

export function softsign(request: CompositeRequest): string[] {
  const { builder } = request;
  const x = inputName(request, 0);
  return [builder.div(x, builder.add(builder.abs(x), builder.scalar(1)))];
}

/** In inference, which is what a frozen base always is, Dropout gives its input. */
export function dropout(request: CompositeRequest): string[] {
  const { outputCount, attributes } = request;
  const training = constantNumbers(request, 2)?.[0] ?? integerOf(attributes, 'training_mode', 0);
  if (training !== 0) throw unsupported(request, 'is supported in inference only');
  if (outputCount > 1) throw unsupported(request, 'is supported without its mask as output');
  return [request.builder.identity(inputName(request, 0))];
}
