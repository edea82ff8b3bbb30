/** The newest lines of this run's log, in bounded memory: for whoever asks from afar. Lines come in redacted, as they go out. */
import { LIMITS } from '#runtime/core/limits.ts';

export class LogRing {
  readonly #lines: string[] = [];
  #bytes = 0;

  /** One JSON line; what is longer than `LIMITS.logRingLineBytesMax` stands without its fields. */
  add(line: string): void {
    const kept = line.length <= LIMITS.logRingLineBytesMax ? line.trimEnd() : shortened(line);
    this.#lines.push(kept);
    this.#bytes += Buffer.byteLength(kept);
    let gone = 0;
    for (; this.#bytes > LIMITS.logRingBytesMax; gone++) this.#bytes -= Buffer.byteLength(this.#lines[gone] ?? '');
    if (gone > 0) this.#lines.splice(0, gone);
  }

  /** Oldest first. */
  lines(): readonly string[] { return this.#lines; }
}

function shortened(line: string): string {
  const { level, time, room, code, msg } = JSON.parse(line) as Readonly<Record<string, unknown>>;
  return JSON.stringify({ level, time, room, code, msg: String(msg).slice(0, LIMITS.logRingLineBytesMax / 2), cut: line.length });
}
