/** A flashed card with the TPM of its board, over as many starts as a scenario needs. */
import { cpSync, existsSync, mkdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tenzro } from '#test/support/gateway.ts';
import { freePort, run } from '#test/support/process.ts';
import { Machine } from './machine.ts';
import { Skipped, type Stage } from './scenario.ts';
import type { Tools } from './tools.ts';

const CARD_BYTES = 6 * 2 ** 30;
/** To user space, and to a gateway that is ready, on a machine that has other things to do. */
const SHELL_TIMEOUT_MS = 420_000;
const READY_TIMEOUT_MS = 600_000;
/** Where the gateway waits for claims, by the boot partition's tenzro.yaml: mDNS does not cross QEMU's network. */
export const CLAIM_PORT = 8701;

export class Board {
  readonly folder: string;
  readonly card: string;
  readonly #tools: Tools;
  /** Of this machine: leads to CLAIM_PORT. */
  readonly claimPort: number;

  private constructor(tools: Tools, folder: string, claimPort: number) {
    this.#tools = tools;
    this.folder = folder;
    this.card = join(folder, 'card.img');
    this.claimPort = claimPort;
  }

  /** An empty one in `folder`: the card is yet to come. */
  static async in(tools: Tools, folder: string): Promise<Board> {
    mkdirSync(folder, { recursive: true });
    return new Board(tools, folder, await freePort());
  }

  /** `tenzro flash`, with files for the boot partition, onto a file that is then as large as a card. Throws with what it said. */
  async flash(image: string, put: readonly string[]): Promise<string> {
    const { code, output } = await tenzro(this.folder, ['flash', image, this.card, '--yes', ...put.length > 0 ? ['--put', ...put] : []]);
    if (code !== 0) throw new Error(`tenzro flash: ${output}`);
    truncateSync(this.card, CARD_BYTES);
    return output;
  }

  /** What another board has now, as its own. Neither runs. */
  async copyOf(other: Board): Promise<void> {
    await copySparse(other.card, this.card);
    rmSync(this.#tpm, { recursive: true, force: true });
    if (existsSync(other.#tpm)) cpSync(other.#tpm, this.#tpm, { recursive: true });
  }

  /** Switches it on. */
  async start({ diskLog }: { readonly diskLog?: string } = {}): Promise<Machine> {
    return Machine.start({
      tools: this.#tools, folder: this.folder, card: this.card, hasTpm: true, hasShell: true, hasWatchdog: true, forwards: [{ host: this.claimPort, guest: CLAIM_PORT }], ...(diskLog === undefined ? {} : { diskLog }),
    });
  }

  get #tpm(): string { return join(this.folder, 'tpm'); }
}

/** Shell of a machine that starts an image for emulation. */
export function shellOf({ shell }: Machine): NonNullable<Machine['shell']> {
  if (!shell) throw new Error('the machine has no shell');
  return shell;
}

/** Waits for user space. */
export const reachShell = (machine: Machine): Promise<void> => shellOf(machine).ready(SHELL_TIMEOUT_MS);

/** Waits until systemd has heard from the gateway that it is ready. */
export async function gatewayReady(machine: Machine, timeoutMs = READY_TIMEOUT_MS): Promise<void> {
  await shellOf(machine).must('until systemctl is-active -q tenzro-edge; do sleep 1; done', timeoutMs);
}

/** An orderly end. */
export async function powerOff(machine: Machine): Promise<void> {
  shellOf(machine).send('systemctl poweroff');
  await machine.off(180_000);
  await machine.cut();
}

export async function copySparse(from: string, to: string): Promise<void> {
  mkdirSync(dirname(to), { recursive: true });
  const { code, output } = await run('cp', ['--sparse=always', '--reflink=auto', from, to]);
  if (code !== 0) throw new Error(output);
}

/** Throws `Skipped` where none was named or it is not there. */
export function imageOf({ image }: Stage): string {
  if (image === undefined) throw new Skipped('needs --image');
  if (!existsSync(image)) throw new Skipped(`there is no ${image}`);
  return image;
}

/** What distinguishes an image from the one that was there before. */
export const versionOf = (image: string): string => `${image} ${statSync(image).size} ${statSync(image).mtimeMs}`;
