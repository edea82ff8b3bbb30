/**
 * Writes ONNX models: the subset of the protobuf schema `onnx/onnx.proto3` (IR version 8, opset 17) that small quantized networks need.
 * Field numbers stand beside each message; they were read from that file. Output is a pure function of the input: same model, same bytes.
 */
import { invariant } from '#runtime/core/errors.ts';

/** `TensorProto.DataType`. */
const ONNX_TYPE = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7 } as const;
export type OnnxType = keyof typeof ONNX_TYPE;

/** `AttributeProto.AttributeType`. */
const ATTRIBUTE_TYPE = { float: 1, int: 2, ints: 7 } as const;
/** Protobuf wire types. */
const WIRE = { varint: 0, bytes: 2, fixed32: 5 } as const;

export type TensorData = Float32Array | Uint8Array | Int8Array | Int32Array | BigInt64Array;
export type Attribute = { readonly int: number } | { readonly float: number } | { readonly ints: readonly number[] };
/** A number is a fixed dimension, a string names a free one. */
export type Dimension = number | string;

export interface OnnxGraph {
  readonly name: string;
  readonly nodes: readonly Buffer[];
  readonly initializers: readonly Buffer[];
  readonly inputs: readonly Buffer[];
  readonly outputs: readonly Buffer[];
}

const IR_VERSION = 8;
const OPSET_VERSION = 17;

/** `ModelProto`: ir_version 1, producer_name 2, doc_string 6, graph 7, opset_import 8. */
export function onnxModel(graph: OnnxGraph, docString: string): Buffer {
  const graphProto = Buffer.concat([ // `GraphProto`: node 1, name 2, initializer 5, input 11, output 12
    ...graph.nodes.map((node) => field(1, node)), text(2, graph.name), ...graph.initializers.map((tensor) => field(5, tensor)),
    ...graph.inputs.map((input) => field(11, input)), ...graph.outputs.map((output) => field(12, output)),
  ]);
  const opset = Buffer.concat([text(1, ''), integer(2, OPSET_VERSION)]); // `OperatorSetIdProto`: domain 1, version 2
  return Buffer.concat([integer(1, IR_VERSION), text(2, 'tenzro-edge'), text(6, docString), field(7, graphProto), field(8, opset)]);
}

/** `NodeProto`: input 1, output 2, name 3, op_type 4, attribute 5. The node is named after its first output. */
export function onnxNode(operator: string, inputs: readonly string[], outputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): Buffer {
  return Buffer.concat([
    ...inputs.map((name) => text(1, name)), ...outputs.map((name) => text(2, name)), text(3, `${operator}:${outputs[0] ?? ''}`), text(4, operator),
    ...Object.entries(attributes).map(([name, value]) => field(5, attribute(name, value))),
  ]);
}

/** `AttributeProto`: name 1, f 2, i 3, ints 8, type 20. */
function attribute(name: string, value: Attribute): Buffer {
  if ('int' in value) return Buffer.concat([text(1, name), integer(3, value.int), integer(20, ATTRIBUTE_TYPE.int)]);
  if ('float' in value) return Buffer.concat([text(1, name), float(2, value.float), integer(20, ATTRIBUTE_TYPE.float)]);
  return Buffer.concat([text(1, name), ...value.ints.map((item) => integer(8, item)), integer(20, ATTRIBUTE_TYPE.ints)]);
}

/** `TensorProto`: dims 1, data_type 2, name 8, raw_data 9 (little-endian). */
export function onnxTensor(name: string, dims: readonly number[], data: TensorData): Buffer {
  const count = dims.reduce((product, dim) => product * dim, 1);
  invariant(count === data.length, `tensor ${name}: ${data.length} values for shape [${dims.join(',')}]`);
  const raw = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([...dims.map((dim) => integer(1, dim)), integer(2, ONNX_TYPE[typeOf(data)]), text(8, name), field(9, raw)]);
}

function typeOf(data: TensorData): OnnxType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Uint8Array) return 'uint8';
  if (data instanceof Int8Array) return 'int8';
  return data instanceof Int32Array ? 'int32' : 'int64';
}

/** `ValueInfoProto` (name 1, type 2) ▸ `TypeProto` (tensor_type 1) ▸ `Tensor` (elem_type 1, shape 2) ▸ `TensorShapeProto` (dim 1: dim_value 1, dim_param 2). */
export function onnxValue(name: string, type: OnnxType, shape: readonly Dimension[]): Buffer {
  const dims = shape.map((dim) => field(1, typeof dim === 'string' ? text(2, dim) : integer(1, dim)));
  const tensorType = Buffer.concat([integer(1, ONNX_TYPE[type]), field(2, Buffer.concat(dims))]);
  return Buffer.concat([text(1, name), field(2, field(1, tensorType))]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value)); // negative int64 takes ten bytes, as protobuf wants
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest === 0n ? low : low | 0x80);
  } while (rest !== 0n);
  return Buffer.from(bytes);
}

const key = (number: number, wire: number): Buffer => varint(number * 8 + wire);
const integer = (number: number, value: number): Buffer => Buffer.concat([key(number, WIRE.varint), varint(value)]);
const field = (number: number, bytes: Uint8Array): Buffer => Buffer.concat([key(number, WIRE.bytes), varint(bytes.length), bytes]);
const text = (number: number, value: string): Buffer => field(number, Buffer.from(value, 'utf8'));

function float(number: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([key(number, WIRE.fixed32), bytes]);
}
