/** What every subcommand writes to and is steered by. Exit codes: docs/reference/exit-codes.md. */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { printable } from '#runtime/core/printable.ts';
import { configFileOf, loadConfig, type LoadOptions, type LoadedConfig } from '#runtime/config/load.ts';

/** Folder of package.json. */
export const APP_ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** `restart`: EX_TEMPFAIL of sysexits.h; `tenzro run` asks its supervisor to start it again. */
export const EXIT = { ok: 0, problem: 1, unable: 2, restart: 75 } as const;

/** Standard output and error; a reader that goes away (`tenzro log | head`) ends the command, quietly. */
export class Io {
  /** Colour on stdout. NO_COLOR: no-color.org. */
  readonly color: boolean;
  readonly isTTY: boolean;
  /** Aborts on SIGINT, SIGTERM, or when nobody reads stdout any more. */
  readonly signal: AbortSignal;
  exitCode: number = EXIT.ok;
  readonly #controller = new AbortController();

  constructor() {
    this.isTTY = process.stdout.isTTY;
    this.color = allowsColor(process.stdout.isTTY);
    this.signal = this.#controller.signal;
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      this.#controller.abort();
    });
  }

  /** From here on SIGINT and SIGTERM abort `signal` instead of killing the process. */
  catchSignals(): void {
    const stop = (): void => { this.#controller.abort(); };
    process.once('SIGINT', stop).once('SIGTERM', stop);
  }

  /** Ends the command as a signal would, with an exit code of its own. */
  stop(exitCode: number): void {
    this.exitCode = exitCode;
    this.#controller.abort();
  }

  /** Adds the newline. */
  line(text: string): void { process.stdout.write(`${text}\n`); }
  /** On one line; what could bend a terminal stands escaped, as JSON may write any character. */
  json(value: unknown): void { this.line(printable(JSON.stringify(value))); }
  /** Waits while stdout's reader is behind, so that a long listing stays small in memory. */
  async drained(): Promise<void> {
    if (process.stdout.writableNeedDrain && !this.signal.aborted) await once(process.stdout, 'drain', { signal: this.signal }).catch((error: unknown) => { if (!this.signal.aborted) throw error; });
  }

  error(text: string): void { process.stderr.write(`${text}\n`); }

  paint(text: string, style: Style): string {
    return this.color ? `\u001b[${STYLE[style]}m${text}\u001b[0m` : text;
  }
}

/** ECMA-48 select graphic rendition. */
const STYLE = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Style = keyof typeof STYLE;

export const allowsColor = (isTTY: boolean): boolean => isTTY && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb';

/** Flags that most subcommands share. */
export interface CommonFlags {
  readonly data?: string;
  readonly config?: string;
  readonly json?: boolean;
}

type ConfigFlags = CommonFlags & { readonly mqttPort?: string };
const loadOptions = (flags: ConfigFlags): LoadOptions => ({ appRoot: APP_ROOT, cwd: process.cwd(), env: process.env, flags });

/** Throws ConfigError. */
export const configOf = (flags: ConfigFlags): LoadedConfig => loadConfig(loadOptions(flags));
/** Where the configuration file is, or would be. */
export const configFileFor = (flags: ConfigFlags): string => configFileOf(loadOptions(flags));
