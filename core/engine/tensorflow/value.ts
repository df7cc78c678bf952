/**
 * A value of the graph on the backend, in the arrangements in which operators want it. Graphs count images
 * as [batch, channels, height, width]; TensorFlow's convolutions on processors want the channels last. A value
 * is turned at most once per run, and only when an operator asks for the arrangement that it does not have.
 */
import * as tf from '@tensorflow/tfjs';

/** `plain` is the graph's own order of axes; `channelsLast` is [batch, height, width, channels]. */
export type Layout = 'plain' | 'channelsLast';

/** What a kernel gives back: a tensor of its own (never one of its inputs) and how it is arranged. */
export interface Produced {
  readonly layout: Layout;
  readonly tensor: tf.Tensor;
}

export const plain = (tensor: tf.Tensor): Produced => ({ layout: 'plain', tensor });
export const channelsLast = (tensor: tf.Tensor): Produced => ({ layout: 'channelsLast', tensor });

export interface Value {
  /** Its shape in the graph. */
  readonly dims: readonly number[];
  /** The graph's order. */
  plain(): tf.Tensor;
  /**
   * Of rank 4 with the channels last; a value of lower rank gets axes of size 1 in front first, so that it
   * still broadcasts against images.
   */
  channelsLast(): tf.Tensor;
  /** Whether it is an image (rank 4) that lies channels-last already, so that using it so costs nothing. */
  hasChannelsLast(): boolean;
  /** Another arrangement, made once and kept: a convolution's filter, for one. `make` may leave tensors lying. */
  form(name: string, make: (plainTensor: tf.Tensor) => tf.Tensor): tf.Tensor;
  dispose(): void;
}

/** Order of the axes of a channels-last tensor seen from the graph's order, and back. */
const toLast = [0, 2, 3, 1];
const toPlain = [0, 3, 1, 2];
/** Where each axis of the graph's order lies in a channels-last tensor. */
export const placeInLast = [0, 3, 1, 2];

function turnToLast(tensor: tf.Tensor): tf.Tensor {
  const [batch, channels, height, width] = [...Array(4 - tensor.rank).fill(1), ...tensor.shape];
  if (height * width === 1 || channels === 1) return tensor.reshape([batch, height, width, channels]);
  return tensor.reshape([batch, channels, height, width]).transpose(toLast);
}

function turnToPlain(tensor: tf.Tensor): tf.Tensor {
  const [batch, height, width, channels] = tensor.shape as [number, number, number, number];
  if (height * width === 1 || channels === 1) return tensor.reshape([batch, channels, height, width]);
  return tensor.transpose(toPlain);
}

/** Lives through the end of any `tf.tidy` around it, until it is disposed. */
function kept(make: () => tf.Tensor): tf.Tensor {
  return tf.keep(tf.tidy(make));
}

/** A value that a kernel made or that was fed. Takes the tensor over. */
export function createValue(dims: readonly number[], { layout, tensor }: Produced): Value {
  return holdForms(dims, new Map([[layout, tensor]]), () => {
    throw new RangeError('a value has neither arrangement');
  });
}

/**
 * A value that stays the same over all runs. It is sent to the backend in those forms alone that are asked for.
 * @param upload makes the tensor in the graph's order
 */
export function createConstantValue(dims: readonly number[], upload: () => tf.Tensor): Value {
  return holdForms(dims, new Map(), upload);
}

function holdForms(dims: readonly number[], forms: Map<string, tf.Tensor>, upload: () => tf.Tensor): Value {
  const get = (name: string, make: () => tf.Tensor): tf.Tensor => {
    const known = forms.get(name);
    if (known !== undefined) return known;
    const made = kept(make);
    forms.set(name, made);
    return made;
  };
  const inPlainOrder = (): tf.Tensor => {
    const known = forms.get('plain');
    if (known !== undefined) return known;
    const last = forms.get('channelsLast');
    return last === undefined ? upload() : turnToPlain(last);
  };
  return {
    dims,
    plain: () => get('plain', inPlainOrder),
    channelsLast: () => get('channelsLast', () => turnToLast(inPlainOrder())),
    hasChannelsLast: () => dims.length === 4 && forms.has('channelsLast'),
    form: (name, make) => get(name, () => make(inPlainOrder())),
    dispose() {
      for (const tensor of forms.values()) tensor.dispose();
      forms.clear();
    },
  };
}
