/** Two machines and a cable: network namespaces joined by veth, with nothing beside it but their loopbacks. No route leaves the link, and no DNS answers. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import type { Context } from 'mocha';
import { requirePeer } from './peers.ts';
import { run } from './process.ts';
import { skipBecause } from './skips.ts';
import { until } from './until.ts';

export type Machine = 'a' | 'b';

const ROOT = 0;
const isRoot = process.geteuid?.() === ROOT;
const NAME = 'cable';
const PREFIX = { ipv4: 24, ipv6: 64 } as const;

/** Gone with whoever made it: each namespace lives as long as a process that waits for the end of its input, and as what was started in it. */
export class Lan implements AsyncDisposable {
  readonly #holders: Readonly<Record<Machine, Holder>>;

  /** Skips the test where namespaces cannot be made. `addresses`: on the cable; IPv6 ones have 64 bits of network, IPv4 ones 24. */
  static async open(context: Context, addresses: Readonly<Record<Machine, string>>): Promise<Lan> {
    for (const peer of ['unshare', 'nsenter', 'ip'] as const) requirePeer(context, peer);
    const a = await holder(['unshare', ...(isRoot ? [] : ['--user', '--map-root-user']), '--net']);
    if (!a) {
      const reason = 'network namespaces need root, or kernel.unprivileged_userns_clone=1';
      if (process.env['CI'] === 'true') throw new Error(reason);
      return skipBecause(context, reason);
    }
    const b = await holder([...inside(a), 'unshare', '--net']);
    if (!b) throw new Error('a second namespace could not be made');
    const lan = new Lan({ a, b });
    try {
      await lan.#build(addresses);
    } catch (error) {
      await lan[Symbol.asyncDispose]();
      throw error;
    }
    return lan;
  }

  private constructor(holders: Readonly<Record<Machine, Holder>>) { this.#holders = holders; }

  /** What a command begins with, so that it runs on that machine. */
  on(machine: Machine): readonly string[] { return inside(this.#holders[machine]); }

  /** The cable is pulled at one end, or put back. */
  async cable(machine: Machine, state: 'up' | 'down'): Promise<void> {
    await this.#ip(machine, 'link', 'set', NAME, state);
    if (state === 'up') await this.#carrier(machine);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of Object.values(this.#holders)) {
      const ended = once(child, 'close');
      child.stdin.end();
      await ended;
    }
  }

  async #build(addresses: Readonly<Record<Machine, string>>): Promise<void> {
    await this.#ip('a', 'link', 'add', NAME, 'type', 'veth', 'peer', 'name', NAME, 'netns', String(this.#holders.b.child.pid));
    for (const machine of ['a', 'b'] as const) {
      const address = addresses[machine];
      const isIpv6 = address.includes(':');
      await this.#ip(machine, 'link', 'set', 'lo', 'up');
      await this.#ip(machine, 'address', 'add', `${address}/${isIpv6 ? PREFIX.ipv6 : PREFIX.ipv4}`, 'dev', NAME, ...(isIpv6 ? ['nodad'] : []));
      await this.#ip(machine, 'link', 'set', NAME, 'up');
    }
    await this.#carrier('a');
  }

  async #carrier(machine: Machine): Promise<void> {
    await until('the cable to carry', async () => (await this.#ip(machine, 'link', 'show', NAME)).includes('LOWER_UP'));
  }

  async #ip(machine: Machine, ...args: readonly string[]): Promise<string> {
    const [file = '', ...before] = this.on(machine);
    const { code, output } = await run(file, [...before, 'ip', ...args]);
    if (code !== 0) throw new Error(`ip ${args.join(' ')}: ${output}`);
    return output;
  }
}

interface Holder {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
}

const inside = ({ child }: Holder): readonly string[] => ['nsenter', '--target', String(child.pid), ...(isRoot ? [] : ['--user', '--preserve-credentials']), '--net'];

/** Undefined where that is not allowed. */
async function holder([file = '', ...args]: readonly string[]): Promise<Holder | undefined> {
  const child = spawn(file, [...args, 'sh', '-c', 'echo; cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const first = await Promise.race([once(child.stdout, 'data').then(() => true), once(child, 'close').then(() => false)]);
  return first ? { child } : undefined;
}
