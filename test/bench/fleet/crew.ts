/** Processes of their own that simulate a share of the gateways each: their memory and their work are not the controller's. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

export interface Question { readonly id: number; readonly method: string; readonly parameters: unknown }
export interface Reply { readonly id: number; readonly result?: unknown; readonly error?: string }

class Hand {
  readonly process: ChildProcess;
  readonly #open = new Map<number, PromiseWithResolvers<unknown>>();
  #asked = 0;

  constructor(file: string) {
    this.process = fork(file, [], { serialization: 'advanced' });
    this.process.on('message', ({ id, result, error }: Reply) => {
      if (error === undefined) this.#open.get(id)?.resolve(result);
      else this.#open.get(id)?.reject(new Error(error));
      this.#open.delete(id);
    });
    this.process.once('exit', (code, signal) => { for (const { reject } of this.#open.values()) reject(new Error(`a process of simulated gateways ended: ${code ?? signal ?? ''}`)); });
  }

  ask(method: string, parameters: unknown): Promise<unknown> {
    const answer = Promise.withResolvers<unknown>();
    const id = this.#asked++;
    this.#open.set(id, answer);
    this.process.send({ id, method, parameters } satisfies Question);
    return answer.promise;
  }
}

/** `Methods`: what every process answers, by name. */
export class Crew<Methods extends { readonly [Name in keyof Methods]: (parameters: never) => unknown }> implements AsyncDisposable {
  readonly #hands: readonly Hand[];

  constructor(file: string, size: number) { this.#hands = Array.from({ length: size }, () => new Hand(file)); }

  get pids(): readonly number[] { return this.#hands.map(({ process }) => process.pid ?? 0); }

  /** All of them at once, each with its own parameters. */
  async ask<Name extends keyof Methods & string>(method: Name, parametersOf: (place: number) => Parameters<Methods[Name]>[0]): Promise<readonly Awaited<ReturnType<Methods[Name]>>[]> {
    return Promise.all(this.#hands.map((hand, place) => hand.ask(method, parametersOf(place)))) as Promise<readonly Awaited<ReturnType<Methods[Name]>>[]>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#hands.map(async ({ process }) => {
      if (process.exitCode !== null || process.signalCode !== null) return;
      const ended = once(process, 'exit');
      process.kill('SIGKILL');
      await ended;
    }));
  }
}

/** The other side, in such a process. */
export function serve(methods: Readonly<Record<string, (parameters: never) => unknown>>): void {
  process.once('disconnect', () => { process.kill(process.pid, 'SIGKILL'); }); // the bench is gone, and its connections would keep this one alive
  process.on('message', ({ id, method, parameters }: Question) => {
    const answer = async (): Promise<Reply> => {
      const asked = methods[method];
      if (!asked) throw new Error(`no method ${method}`);
      return { id, result: await asked(parameters as never) };
    };
    void answer().catch((error: unknown): Reply => ({ id, error: error instanceof Error ? error.stack ?? error.message : String(error) })).then((reply) => process.send?.(reply));
  });
}
