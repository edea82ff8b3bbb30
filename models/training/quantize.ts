/**
 * Float network → INT8 QDQ network → ONNX graph. Activations are uint8 per tensor, weights int8 per output channel, bias int32.
 *
 * Weights keep to 7 bits (±63): x86 without VNNI adds pairs of uint8 × int8 products in 16 bits, and 2 · 255 · 63 is the most that fits
 * (ONNX Runtime documentation, "Quantize ONNX models", section on U8S8 saturation).
 */
import { invariant } from '#runtime/core/errors.ts';
import { onnxModel, onnxNode, onnxTensor, onnxValue } from '../onnxWriter.ts';
import { CLIP, WIDTH, type Scaling } from './motorData.ts';
import { forward, type Layer } from './mlp.ts';

const WEIGHT_MAX = 63;

interface Quantisation {
  readonly scale: number;
  /** uint8 that stands for 0. */
  readonly zero: number;
}

export interface QuantisedLayer {
  readonly inputs: number;
  readonly outputs: number;
  /** Of what comes in. */
  readonly activation: Quantisation;
  /** Row-major `[inputs, outputs]`, −63 … 63. */
  readonly weights: Int8Array;
  /** One per output. */
  readonly scales: Float32Array;
  /** In units of activation scale × weight scale. */
  readonly bias: Int32Array;
}

/** Ranges of the hidden activations are those of `calibration`, standardised rows. */
export function quantise(layers: readonly Layer[], calibration: Float64Array): QuantisedLayer[] {
  const activations = forward(layers, calibration, calibration.length / WIDTH);
  return layers.map((layer, depth) => {
    const values = activations[depth];
    invariant(values !== undefined, 'an activation per layer');
    const activation = depth === 0
      ? { scale: Math.fround((2 * CLIP) / 255), zero: 128 }
      : { scale: Math.fround(values.reduce((most, value) => Math.max(most, value), 1e-6) / 255), zero: 0 }; // behind a ReLU nothing is negative
    return { inputs: layer.inputs, outputs: layer.outputs, activation, ...quantiseWeights(layer, activation.scale) };
  });
}

function quantiseWeights({ outputs, weights, bias }: Layer, activationScale: number): Pick<QuantisedLayer, 'weights' | 'scales' | 'bias'> {
  const most = new Float64Array(outputs);
  for (const [i, weight] of weights.entries()) most[i % outputs] = Math.max(most[i % outputs] ?? 0, Math.abs(weight));
  const scales = Float32Array.from(most, (value) => Math.max(value, 1e-9) / WEIGHT_MAX);
  const scaleOf = (output: number): number => scales[output] ?? 1;
  return {
    scales,
    weights: Int8Array.from(weights, (weight, i) => Math.min(WEIGHT_MAX, Math.max(-WEIGHT_MAX, Math.round(weight / scaleOf(i % outputs))))),
    bias: Int32Array.from(bias, (value, output) => Math.round(value / (activationScale * scaleOf(output)))),
  };
}

/** What the graph computes before its last scaling, in integers as ONNX Runtime does: one output per row. */
export function forwardQuantised(layers: readonly QuantisedLayer[], input: Float64Array): Float64Array {
  const rows = input.length / WIDTH;
  let current = input;
  for (const [depth, layer] of layers.entries()) {
    const { inputs, outputs, activation, weights, scales, bias } = layer;
    const next = new Float64Array(rows * outputs);
    for (let row = 0; row < rows; row++) {
      const sums = new Float64Array(outputs).map((_, o) => bias[o] ?? 0);
      for (let i = 0; i < inputs; i++) {
        const code = Math.min(255, Math.max(0, roundHalfEven((current[row * inputs + i] ?? 0) / activation.scale) + activation.zero)) - activation.zero;
        if (code !== 0) for (let o = 0; o < outputs; o++) sums[o] = (sums[o] ?? 0) + code * (weights[i * outputs + o] ?? 0);
      }
      for (let o = 0; o < outputs; o++) {
        const value = (sums[o] ?? 0) * activation.scale * (scales[o] ?? 0);
        next[row * outputs + o] = depth < layers.length - 1 ? Math.max(0, value) : value;
      }
    }
    current = next;
  }
  return current;
}

/** ONNX QuantizeLinear rounds halves to even (operator specification, opset 13). */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

export interface Affine { readonly gain: number; readonly offset: number }

/** `window` float32 [batch, WIDTH] of raw features → `score` float32 [batch] = gain × network + offset. */
export function buildGraph(layers: readonly QuantisedLayer[], scaling: Scaling, { gain, offset }: Affine, docString: string): Buffer {
  const nodes = [
    onnxNode('Sub', ['window', 'mean'], ['centred']),
    onnxNode('Mul', ['centred', 'inverse_deviation'], ['standardised']),
    onnxNode('Clip', ['standardised', 'clip_low', 'clip_high'], ['x0']),
  ];
  const initializers = [
    onnxTensor('mean', [WIDTH], Float32Array.from(scaling.mean)),
    onnxTensor('inverse_deviation', [WIDTH], Float32Array.from(scaling.deviation, (value) => 1 / value)),
    onnxTensor('clip_low', [], new Float32Array([-CLIP])), onnxTensor('clip_high', [], new Float32Array([CLIP])),
    onnxTensor('gain', [], new Float32Array([gain])), onnxTensor('offset', [], new Float32Array([offset])), onnxTensor('axes', [1], new BigInt64Array([1n])),
  ];
  for (const [depth, layer] of layers.entries()) {
    const part = denseNodes(layer, depth, depth === layers.length - 1);
    nodes.push(...part.nodes);
    initializers.push(...part.initializers);
  }
  nodes.push(onnxNode('Mul', [`x${layers.length}`, 'gain'], ['scaled']), onnxNode('Add', ['scaled', 'offset'], ['shifted']), onnxNode('Squeeze', ['shifted', 'axes'], ['score']));
  return onnxModel({
    name: 'motor_vibration', nodes, initializers,
    inputs: [onnxValue('window', 'float32', ['batch', WIDTH])], outputs: [onnxValue('score', 'float32', ['batch'])],
  }, docString);
}

function denseNodes(layer: QuantisedLayer, depth: number, last: boolean): { nodes: Buffer[]; initializers: Buffer[] } {
  const { inputs, outputs, activation, weights, scales, bias } = layer;
  const name = (what: string): string => `${what}${depth}`;
  const biasScales = scales.map((scale) => scale * activation.scale);
  const sum = last ? `x${depth + 1}` : name('sum');
  return {
    initializers: [
      onnxTensor(name('x_scale'), [], new Float32Array([activation.scale])), onnxTensor(name('x_zero'), [], new Uint8Array([activation.zero])),
      onnxTensor(name('w'), [inputs, outputs], weights), onnxTensor(name('w_scale'), [outputs], scales), onnxTensor(name('w_zero'), [outputs], new Int8Array(outputs)),
      onnxTensor(name('b'), [outputs], bias), onnxTensor(name('b_scale'), [outputs], biasScales), onnxTensor(name('b_zero'), [outputs], new Int32Array(outputs)),
    ],
    nodes: [
      onnxNode('QuantizeLinear', [name('x'), name('x_scale'), name('x_zero')], [name('xq')]),
      onnxNode('DequantizeLinear', [name('xq'), name('x_scale'), name('x_zero')], [name('xd')]),
      onnxNode('DequantizeLinear', [name('w'), name('w_scale'), name('w_zero')], [name('wd')], { axis: { int: 1 } }),
      onnxNode('DequantizeLinear', [name('b'), name('b_scale'), name('b_zero')], [name('bd')], { axis: { int: 0 } }),
      onnxNode('Gemm', [name('xd'), name('wd'), name('bd')], [sum]),
      ...(last ? [] : [onnxNode('Relu', [sum], [`x${depth + 1}`])]),
    ],
  };
}
