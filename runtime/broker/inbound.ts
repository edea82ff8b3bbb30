/** What the engine reads from a socket: bytes that have passed the guard, less what the fast lane took. The engine pulls with `read()`. */
import type { Socket } from 'node:net';
import { FrameGuard } from '#runtime/core/mqttFrames.ts';
import type { FastLane } from './fastLane.ts';

export class Inbound {
  readonly #guard: FrameGuard;
  #lane: FastLane | undefined;

  /** Takes over `read`; nothing beyond the limit is ever buffered for the engine. */
  constructor(socket: Socket, packetBytesMax: number) {
    this.#guard = new FrameGuard(packetBytesMax);
    const read = socket.read.bind(socket);
    socket.read = (sizeBytes?: number): Buffer | null => {
      if (this.#lane?.isFull === true) return null;
      const chunk: unknown = read(sizeBytes);
      if (!Buffer.isBuffer(chunk)) return null;
      const rest = this.#lane !== undefined && this.#guard.isBetweenPackets ? this.#lane.take(chunk) : chunk;
      if (rest.length === 0) return null;
      const fault = this.#guard.check(rest);
      if (fault === undefined) return rest;
      socket.destroy(fault);
      return null;
    };
  }

  open(lane: FastLane): void { this.#lane = lane; }
}
