/** Reads back as much of an ONNX file as the tests need: nodes and initializers. Field numbers as in onnx/onnx.proto3. */
import assert from 'node:assert/strict';

interface Field {
  readonly number: number;
  readonly value: bigint;
  readonly bytes: Buffer;
}

export interface OnnxInitializer {
  readonly name: string;
  readonly dims: readonly number[];
  readonly dataType: number;
  readonly raw: Buffer;
}

export interface OnnxContents {
  readonly operators: readonly string[];
  readonly initializers: ReadonlyMap<string, OnnxInitializer>;
}

export function readOnnx(model: Buffer): OnnxContents {
  const graph = fieldsOf(model).find((field) => field.number === 7);
  assert.ok(graph, 'the model has a graph');
  const parts = fieldsOf(graph.bytes);
  const operators = parts.filter((part) => part.number === 1).map((node) => text(fieldsOf(node.bytes), 4));
  const initializers = parts.filter((part) => part.number === 5).map((tensor) => {
    const fields = fieldsOf(tensor.bytes);
    const dims = fields.filter((field) => field.number === 1).map((field) => Number(field.value));
    return { name: text(fields, 8), dims, dataType: Number(fields.find((field) => field.number === 2)?.value), raw: fields.find((field) => field.number === 9)?.bytes ?? Buffer.alloc(0) };
  });
  return { operators, initializers: new Map(initializers.map((tensor) => [tensor.name, tensor])) };
}

export const floatsOf = ({ raw }: OnnxInitializer): Float32Array => Float32Array.from({ length: raw.length / 4 }, (_, i) => raw.readFloatLE(i * 4));
export const int8sOf = ({ raw }: OnnxInitializer): Int8Array => Int8Array.from(raw);
export const int32sOf = ({ raw }: OnnxInitializer): Int32Array => Int32Array.from({ length: raw.length / 4 }, (_, i) => raw.readInt32LE(i * 4));

const text = (fields: readonly Field[], number: number): string => fields.find((field) => field.number === number)?.bytes.toString('utf8') ?? '';

function fieldsOf(bytes: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes.readUInt8(at++);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const wire = key % 8;
    const value = wire === 5 ? 0n : varint();
    const length = wire === 5 ? 4 : wire === 2 ? Number(value) : 0;
    fields.push({ number: Math.floor(key / 8), value, bytes: bytes.subarray(at, at + length) });
    at += length;
  }
  return fields;
}
