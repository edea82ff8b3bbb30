/** The real gateway as its users run it: its own process, its own data directory, talked to over MQTT, its control socket and its command line. */
import { join } from 'node:path';
import { readStatus } from '#runtime/observe/control.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { Program, run, type Ran } from './process.ts';
import { until } from './until.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');
const READY_TIMEOUT_MS = 30_000;

export interface GatewayOptions {
  readonly dataDir: string;
  /** Default 0: it picks a free one. */
  readonly port?: number;
  /** Arguments after `run`; default `--no-scenario`. */
  readonly args?: readonly string[];
  readonly configFile?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** A child's environment: nothing of ours leaks in but what the test sets. */
const environment = ({ dataDir, port = 0, configFile, env = {} }: GatewayOptions): NodeJS.ProcessEnv => {
  const { TENZRO_CONFIG: _config, npm_lifecycle_event: _npm, ...rest } = process.env;
  return { ...rest, TENZRO_DATA: dataDir, TENZRO_MQTT_PORT: String(port), ...(configFile === undefined ? {} : { TENZRO_CONFIG: configFile }), ...env };
};

export class Gateway implements AsyncDisposable {
  readonly #program: Program;
  readonly #options: GatewayOptions;

  /** Starts without waiting: for those who measure the start. */
  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#program = new Program(process.execPath, [COMMAND, 'run', ...(options.args ?? ['--no-scenario'])], { env: environment(options), ...(options.cwd === undefined ? {} : { cwd: options.cwd }) });
  }

  /** Resolves when it is ready. Throws with its output when it ends instead. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(options);
    try {
      await gateway.until('the gateway to be ready', ({ ready }) => ready, READY_TIMEOUT_MS);
      return gateway;
    } catch (error) {
      await gateway[Symbol.asyncDispose]();
      throw new Error(`the gateway did not start: ${gateway.output}`, { cause: error });
    }
  }

  get pid(): number { return this.#program.pid; }
  get output(): string { return this.#program.output; }

  async status(): Promise<GatewayStatus | undefined> {
    const status = await readStatus(this.#options.dataDir);
    return status.kind === 'value' ? status.value : undefined;
  }

  /** Waits until its status satisfies `holds`, and returns that status. */
  async until(what: string, holds: (status: GatewayStatus) => boolean, timeoutMs = 10_000): Promise<GatewayStatus> {
    return until(what, async () => {
      const status = await this.status();
      return status !== undefined && holds(status) ? status : undefined;
    }, { timeoutMs, hopeless: () => (this.#program.running ? undefined : `the gateway ended: ${this.output}`) });
  }

  /** Port of its first listener. */
  async port(): Promise<number> {
    const url = (await this.status())?.broker.listeners[0]?.url;
    if (url === undefined) throw new Error('the gateway does not listen');
    return Number(new URL(url).port);
  }

  /** Orderly: resolves with the exit code. */
  async stop(): Promise<number | string> { return this.#program.end('SIGTERM'); }

  /** As a power cut does, but for the page cache. */
  async kill(): Promise<void> { await this.#program.end('SIGKILL'); }

  async exited(): Promise<number | string> { return this.#program.exited(); }

  async [Symbol.asyncDispose](): Promise<void> { await this.#program[Symbol.asyncDispose](); }
}

/** One call of the command line on a data directory. */
export async function tenzro(dataDir: string, args: readonly string[], options: Omit<GatewayOptions, 'dataDir'> = {}): Promise<Ran> {
  return run(process.execPath, [COMMAND, ...args], { env: environment({ dataDir, ...options }) });
}

export interface LogLine { readonly index: number; readonly kind: string; readonly source: string; readonly time: string; readonly body: unknown }

/** `tenzro log --json` with further arguments. */
export async function logLines(dataDir: string, args: readonly string[]): Promise<readonly LogLine[]> {
  const { stdout, code, output } = await tenzro(dataDir, ['log', '--json', ...args]);
  if (code !== 0) throw new Error(`tenzro log: ${output}`);
  return stdout.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as LogLine);
}
