/**
 * Answers every question for an address with ours, so that phones find the page by themselves; all other questions with no data. Names are not followed, only
 * given back: no compression, nothing allocated by what a query says. Pure. RFC 1035 §4.1, §4.2.1.
 */

const HEADER_BYTES = 12;
const QUERY_BYTES_MAX = 512;
const NAME_BYTES_MAX = 255;
const LABEL_BYTES_MAX = 63;
const TYPE_A = 1;
const CLASS_IN = 1;
/** Phones ask again when they have another network. */
const TTL_SECONDS = 5;
/** §4.1.4: the name of the question, behind the header. */
const QUESTION_NAME = 0xc00c;
const FLAGS = { response: 0x8000, opcode: 0x7800, authoritative: 0x0400, recursionDesired: 0x0100 } as const;

/** Undefined for what is no query of one question: it gets no answer. `address`: IPv4, 4 bytes. */
export function answerTo(query: Buffer, address: Uint8Array): Buffer | undefined {
  if (query.length < HEADER_BYTES || query.length > QUERY_BYTES_MAX) return undefined;
  const flags = query.readUInt16BE(2);
  if ((flags & (FLAGS.response | FLAGS.opcode)) !== 0 || query.readUInt16BE(4) !== 1) return undefined;
  const nameEnd = endOfName(query);
  if (nameEnd === undefined || nameEnd + 4 > query.length) return undefined;
  const isForUs = query.readUInt16BE(nameEnd) === TYPE_A && query.readUInt16BE(nameEnd + 2) === CLASS_IN;
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt16BE(query.readUInt16BE(0), 0);
  head.writeUInt16BE(FLAGS.response | FLAGS.authoritative | (flags & FLAGS.recursionDesired), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(isForUs ? 1 : 0, 6);
  return Buffer.concat([head, query.subarray(HEADER_BYTES, nameEnd + 4), ...isForUs ? [recordOf(address)] : []]);
}

/** Behind the name; undefined where it has no end, or points elsewhere. */
function endOfName(query: Buffer): number | undefined {
  let at = HEADER_BYTES;
  for (;;) {
    const length = query[at];
    if (length === undefined || length > LABEL_BYTES_MAX || at - HEADER_BYTES >= NAME_BYTES_MAX) return undefined;
    at += 1 + length;
    if (length === 0) return at;
  }
}

function recordOf(address: Uint8Array): Buffer {
  const record = Buffer.alloc(12);
  record.writeUInt16BE(QUESTION_NAME, 0);
  record.writeUInt16BE(TYPE_A, 2);
  record.writeUInt16BE(CLASS_IN, 4);
  record.writeUInt32BE(TTL_SECONDS, 6);
  record.writeUInt16BE(address.length, 10);
  return Buffer.concat([record, address]);
}
