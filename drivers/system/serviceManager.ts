/**
 * What a gateway tells systemd about itself: sd_notify(3). Node has no datagram socket of the unix kind, so `systemd-notify`, which comes with every systemd, sends
 * for us. It ends when systemd has read what it sent (its barrier, since systemd 246): who is gone before belongs to no unit that systemd knew.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Assignments as sd_notify(3) names them: `READY`, `STATUS`, `WATCHDOG` … */
export type Assignments = Readonly<Record<string, string>>;

const SEND_MS = 10_000;
/** `systemctl status` shows one line. */
const VALUE_CHARS_MAX = 200;

const run = promisify(execFile);

export class ServiceManager {
  readonly #socket: string;
  readonly #program: string;
  /** Within which systemd wants to hear from this process (`WatchdogSec=`); undefined where it does not. */
  readonly watchdogMs: number | undefined;

  private constructor(socket: string, watchdogMs: number | undefined, program: string) {
    this.#socket = socket;
    this.watchdogMs = watchdogMs;
    this.#program = program;
  }

  /** Undefined where nobody listens: no systemd, or a unit without `Type=notify`. */
  static of(env: NodeJS.ProcessEnv, program = 'systemd-notify'): ServiceManager | undefined {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: micros, WATCHDOG_PID: pid } = env;
    if (socket === undefined || socket === '') return undefined;
    const isForUs = pid === undefined || pid === String(process.pid); // sd_watchdog_enabled(3)
    const watchdogMs = isForUs && micros !== undefined && /^[1-9]\d{0,14}$/.test(micros) ? Number(micros) / 1_000 : undefined;
    return new ServiceManager(socket, watchdogMs, program);
  }

  /** Resolves when systemd has read it. Rejects with what the program says, also when `signal` aborts. */
  async tell(assignments: Assignments, signal: AbortSignal): Promise<void> {
    const words = Object.entries(assignments).map(([name, value]) => `${name}=${value.replaceAll(/[^\P{C}]/gu, ' ').slice(0, VALUE_CHARS_MAX)}`);
    const running = run(this.#program, words, { signal, timeout: SEND_MS, killSignal: 'SIGKILL', env: { PATH: '/usr/bin:/bin', NOTIFY_SOCKET: this.#socket } });
    running.child.stdin?.end();
    await running;
  }
}
