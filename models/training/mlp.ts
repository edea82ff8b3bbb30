/** A small multilayer perceptron with ReLU between its layers, trained by Adam in double precision: the same seed gives the same bits anywhere. */
import { invariant } from '#runtime/core/errors.ts';
import type { Random } from '#drivers/sim/random.ts';

export interface Layer {
  readonly inputs: number;
  readonly outputs: number;
  /** Row-major `[inputs, outputs]`. */
  readonly weights: Float64Array;
  readonly bias: Float64Array;
}

/** He initialisation (He et al., 2015, §2.2): standard deviation √(2/inputs). */
export function createMlp(sizes: readonly number[], random: Random): Layer[] {
  return sizes.slice(1).map((outputs, i) => {
    const inputs = sizes[i] ?? 0;
    const weights = Float64Array.from({ length: inputs * outputs }, () => random.normal() * Math.sqrt(2 / inputs));
    return { inputs, outputs, weights, bias: new Float64Array(outputs) };
  });
}

/** Activations of every layer for `rows` rows, the input first; the last layer is linear, the others ReLU. */
export function forward(layers: readonly Layer[], input: Float64Array, rows: number): Float64Array[] {
  const activations = [input];
  for (const [depth, layer] of layers.entries()) {
    const from = activations[depth];
    invariant(from !== undefined && from.length === rows * layer.inputs, `layer ${depth} got the wrong number of inputs`);
    activations.push(dense(layer, from, rows, depth < layers.length - 1));
  }
  return activations;
}

function dense({ inputs, outputs, weights, bias }: Layer, from: Float64Array, rows: number, relu: boolean): Float64Array {
  const to = new Float64Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    const base = row * outputs;
    to.set(bias, base);
    for (let i = 0; i < inputs; i++) {
      const value = from[row * inputs + i] ?? 0;
      if (value === 0) continue;
      for (let o = 0; o < outputs; o++) to[base + o] = (to[base + o] ?? 0) + value * (weights[i * outputs + o] ?? 0);
    }
  }
  return relu ? to.map((value) => Math.max(0, value)) : to;
}

/** Adam (Kingma & Ba, 2015, algorithm 1) with its published β1, β2 and ε. */
const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

export class Adam {
  readonly #layers: readonly Layer[];
  readonly #moments: readonly { readonly first: Float64Array; readonly second: Float64Array }[];
  #step = 0;

  constructor(layers: readonly Layer[]) {
    this.#layers = layers;
    this.#moments = layers.flatMap((layer) => [layer.weights, layer.bias]).map((parameters) => ({ first: new Float64Array(parameters.length), second: new Float64Array(parameters.length) }));
  }

  /** One step: `activations` of `forward`, and the loss's gradient at the last layer's output, which is overwritten by none. */
  step(activations: readonly Float64Array[], outputGradient: Float64Array, rows: number, rate: number): void {
    this.#step++;
    let gradient = outputGradient;
    for (let depth = this.#layers.length - 1; depth >= 0; depth--) {
      const layer = this.#layers[depth];
      const from = activations[depth];
      invariant(layer !== undefined && from !== undefined, 'one activation per layer');
      const below = depth === 0 ? gradient : gradientBelow(layer, from, gradient, rows);
      const { weights, bias } = parameterGradients(layer, from, gradient, rows);
      this.#update(depth * 2, layer.weights, weights, rate);
      this.#update(depth * 2 + 1, layer.bias, bias, rate);
      gradient = below;
    }
  }

  #update(slot: number, parameters: Float64Array, gradients: Float64Array, rate: number): void {
    const moments = this.#moments[slot];
    invariant(moments !== undefined, 'a slot per parameter array');
    const { first, second } = moments;
    const unbias1 = 1 - ADAM.beta1 ** this.#step;
    const unbias2 = 1 - ADAM.beta2 ** this.#step;
    for (let i = 0; i < parameters.length; i++) {
      const g = gradients[i] ?? 0;
      const m = ADAM.beta1 * (first[i] ?? 0) + (1 - ADAM.beta1) * g;
      const v = ADAM.beta2 * (second[i] ?? 0) + (1 - ADAM.beta2) * g * g;
      first[i] = m;
      second[i] = v;
      parameters[i] = (parameters[i] ?? 0) - (rate * (m / unbias1)) / (Math.sqrt(v / unbias2) + ADAM.epsilon);
    }
  }
}

function parameterGradients({ inputs, outputs }: Layer, from: Float64Array, gradient: Float64Array, rows: number): { weights: Float64Array; bias: Float64Array } {
  const weights = new Float64Array(inputs * outputs);
  const bias = new Float64Array(outputs);
  for (let row = 0; row < rows; row++) {
    const base = row * outputs;
    for (let o = 0; o < outputs; o++) bias[o] = (bias[o] ?? 0) + (gradient[base + o] ?? 0);
    for (let i = 0; i < inputs; i++) {
      const value = from[row * inputs + i] ?? 0;
      if (value === 0) continue;
      for (let o = 0; o < outputs; o++) weights[i * outputs + o] = (weights[i * outputs + o] ?? 0) + value * (gradient[base + o] ?? 0);
    }
  }
  return { weights, bias };
}

/** Through the weights and the ReLU whose output was `from`. */
function gradientBelow({ inputs, outputs, weights }: Layer, from: Float64Array, gradient: Float64Array, rows: number): Float64Array {
  const below = new Float64Array(rows * inputs);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < inputs; i++) {
      if ((from[row * inputs + i] ?? 0) <= 0) continue;
      let sum = 0;
      for (let o = 0; o < outputs; o++) sum += (gradient[row * outputs + o] ?? 0) * (weights[i * outputs + o] ?? 0);
      below[row * inputs + i] = sum;
    }
  }
  return below;
}
