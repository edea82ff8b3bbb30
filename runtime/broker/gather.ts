/**
 * Gathers the small writes of one turn into one. The engine writes a PUBACK in three pieces and corks around each packet; with a batch of
 * acknowledgements per flush that is hundreds of pieces per system call. Here they are copied side by side and leave at the turn's end.
 */
import type { Socket } from 'node:net';

/** Larger pieces are not worth a copy. */
const PIECE_BYTES_MAX = 1_024;
const BATCH_BYTES = 8 * 1_024;

export interface Outbound {
  /** PUBACK, MQTT 3.1.1 §3.4. */
  acknowledge(packetId: number): void;
}

const PUBACK = 0x40;

/** Takes over `write`, `cork` and `uncork` of a socket that is written without callbacks and never `end`ed with data. */
export function gatherWrites(socket: Socket): Outbound {
  const write = socket.write.bind(socket);
  let batch: Buffer | undefined;
  let filled = 0;
  const flush = (): void => {
    if (filled === 0 || batch === undefined) return;
    const ready = batch.subarray(0, filled);
    batch = filled < BATCH_BYTES / 2 ? batch.subarray(filled) : undefined;
    filled = 0;
    if (!socket.destroyed) write(ready);
  };
  const room = (bytes: number): Buffer => {
    if (batch === undefined || filled + bytes > batch.length) {
      flush();
      batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
    }
    if (filled === 0) process.nextTick(flush);
    return batch;
  };
  const gathered = (piece: Uint8Array | string): boolean => {
    const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece;
    if (bytes.length > PIECE_BYTES_MAX) {
      flush();
      return write(bytes);
    }
    room(bytes.length).set(bytes, filled);
    filled += bytes.length;
    return !socket.writableNeedDrain;
  };
  socket.write = gathered;
  socket.cork = nothing;
  socket.uncork = nothing;
  return {
    acknowledge: (packetId) => {
      const into = room(4);
      into[filled++] = PUBACK;
      into[filled++] = 2;
      into[filled++] = packetId >> 8;
      into[filled++] = packetId & 0xff;
    },
  };
}

const nothing = (): void => {};
