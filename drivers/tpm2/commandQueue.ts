/** One command at a time: a TPM has one command buffer, and the nonces of sessions roll from response to response. */
import { setTimeout as delay } from 'node:timers/promises';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { isRetryable } from './errors.ts';
import { abandonable, type Transport } from './transport.ts';

const RETRY_DELAY_MS = 5;
const RESPONSE_CODE_AT = 6;

export class CommandQueue {
  readonly #transport: Transport;
  readonly #timeoutMs: number;
  #tail: Promise<void> = Promise.resolve();

  constructor(transport: Transport, timeoutMs: number) {
    this.#transport = transport;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Runs `task` when all earlier ones have ended. An aborted `signal` keeps a waiting task from starting; one that runs is left to its end (a TPM
   * command cannot be taken back), only the caller waits no longer. `undo` then takes back what it made, before the next task.
   */
  run<T>(task: () => Promise<T>, signal: AbortSignal, undo?: (result: T) => Promise<void>): Promise<T> {
    const turn = this.#tail.then(() => {
      if (signal.aborted) throw new TenzroError('tpm.timeout', 'the command was given up before it was sent');
      return task();
    });
    const waited = abandonable(turn, signal, 'the TPM');
    this.#tail = Promise.allSettled([turn, waited]).then(async ([ran, taken]) => {
      if (ran.status === 'fulfilled' && taken.status === 'rejected') await undo?.(ran.value);
    });
    return waited;
  }

  /** Only inside a task. Sends again what the TPM asks to have sent again, after growing waits, up to LIMITS.tpmRetriesMax times and the timeout. */
  async send(command: Buffer): Promise<Buffer> {
    const limit = new AbortController();
    // Not AbortSignal.timeout: thousands of short commands a second would each leave a signal behind until its time is over.
    const timer = setTimeout(() => limit.abort(new TenzroError('tpm.timeout', `no answer within ${this.#timeoutMs} ms`)), this.#timeoutMs).unref();
    try {
      return await this.#sendUntilTaken(command, limit.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  async #sendUntilTaken(command: Buffer, limit: AbortSignal): Promise<Buffer> {
    for (let attempt = 0; ; attempt += 1) {
      const response = await this.#transport.transact(command, limit);
      const code = response.readUInt32BE(RESPONSE_CODE_AT);
      if (!isRetryable(code)) return response;
      if (attempt < LIMITS.tpmRetriesMax) await delay(Math.min(RETRY_DELAY_MS * 2 ** attempt, LIMITS.tpmRetryDelayMaxMs));
      if (attempt === LIMITS.tpmRetriesMax || limit.aborted) throw new TenzroError('tpm.busy', `the TPM answered ${attempt + 1} times that it is busy (code 0x${code.toString(16)})`);
    }
  }
}
