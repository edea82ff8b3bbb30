/**
 * A machine with two slots as RAUC sees it: its real service on a bus of its own, slots that are files, and a boot loader that is a folder and counts tries as
 * image/disk/boot.cmd does. Bundles are plain ones: verity ones need dm-verity in the kernel. As root, for RAUC mounts what it installs.
 */
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Context } from 'mocha';
import type { RaucPlaces } from '#drivers/slots/rauc.ts';
import { requirePeer } from './peers.ts';
import { Program, run } from './process.ts';
import { skipBecause } from './skips.ts';
import { tempDir, type TempDir } from './temp.ts';
import { until } from './until.ts';

const COMPATIBLE = 'tenzro-edge-test';
const TRIES = 3;

const BOOT_LOADER = `#!/bin/sh
cd "$(dirname "$0")/boot" || exit 1
case "$1" in
get-primary) for s in $(cat order); do [ "$(cat $s)" -gt 0 ] && { echo $s; exit 0; }; done; echo A ;;
set-primary) if [ "$2" = A ]; then echo A B > order; else echo B A > order; fi; echo ${TRIES} > "$2" ;;
get-state) if [ "$(cat "$2")" -gt 0 ]; then echo good; else echo bad; fi ;;
set-state) if [ "$3" = good ]; then echo ${TRIES} > "$2"; else echo 0 > "$2"; fi ;;
esac
`;

export interface BundleWords {
  readonly version: string;
  readonly compatible?: string;
  /** Another than ours signs. */
  readonly signer?: 'foreign';
  readonly bytes?: number;
}

export class RaucWorld implements AsyncDisposable {
  readonly #dir: TempDir;
  readonly #resources = new AsyncDisposableStack();
  #service: Program | undefined;
  readonly #rauc: string;
  /** It takes bundles over the network by streams only (since 1.9 in Debian), not as files that it fetches. */
  isStreaming = false;
  readonly places: RaucPlaces;

  static async open(context: Context): Promise<RaucWorld> {
    const [rauc, bus] = [requirePeer(context, 'rauc'), requirePeer(context, 'dbus-daemon')];
    for (const peer of ['busctl', 'mksquashfs', 'openssl'] as const) requirePeer(context, peer);
    if (process.getuid?.() !== 0) return skipBecause(context, 'RAUC mounts bundles: as root only');
    const world = new RaucWorld(rauc);
    await world.#build(bus);
    world.isStreaming = Number(/ 1\.(\d+)/.exec((await run(rauc, ['--version'])).stdout)?.[1] ?? 0) > 8;
    return world;
  }

  private constructor(rauc: string) {
    this.#rauc = rauc;
    this.#dir = this.#resources.use(tempDir('rauc'));
    this.places = { imageFile: this.path('image.json'), systemConf: this.path('system.conf'), committedFile: this.path('state/committed.json'), askFile: this.path('ask-reboot') };
  }

  path(name: string): string { return join(this.#dir.path, name); }

  /** Restarts the machine: the boot loader takes a try and a slot. Returns which. */
  async boot(): Promise<'A' | 'B'> {
    await this.#service?.end('SIGKILL');
    rmSync(this.places.askFile, { force: true });
    const left = (slot: string): number => Number(readFileSync(this.path(`boot/${slot}`), 'utf8'));
    const slot = readFileSync(this.path('boot/order'), 'utf8').trim().split(' ').find((name): name is 'A' | 'B' => left(name) > 0);
    if (!slot) throw new Error('no slot has a try left');
    writeFileSync(this.path(`boot/${slot}`), `${left(slot) - 1}\n`);
    writeFileSync(this.places.imageFile, readFileSync(this.path(`slot-${slot}`), 'utf8').split('\n')[0] ?? '');
    await this.#serve(slot);
    return slot;
  }

  /** Path of a bundle that RAUC made. */
  async bundle(name: string, { version, compatible = COMPATIBLE, signer, bytes = 300_000 }: BundleWords): Promise<string> {
    const [folder, file] = [this.path(`in-${name}`), this.path(`${name}.raucb`)];
    mkdirSync(folder);
    // Not compressible: what is fetched shall be as long as it says.
    writeFileSync(join(folder, 'rootfs.img'), Buffer.concat([Buffer.from(`${JSON.stringify({ compatible, version })}\n`), crypto.getRandomValues(new Uint8Array(Math.min(bytes, 65_536))), Buffer.alloc(Math.max(0, bytes - 65_536), 7)]));
    writeFileSync(join(folder, 'manifest.raucm'), `[update]\ncompatible=${compatible}\nversion=${version}\n[bundle]\nformat=plain\n[image.rootfs]\nfilename=rootfs.img\n`);
    const key = signer ?? 'ours';
    const made = await run(this.#rauc, [`--cert=${this.path(`${key}.pem`)}`, `--key=${this.path(`${key}.key`)}`, '--mksquashfs-args=-noD -noF', 'bundle', folder, file]);
    if (made.code !== 0) throw new Error(made.output);
    return file;
  }

  /** What the slot holds. */
  holds(slot: 'A' | 'B'): string { return readFileSync(this.path(`slot-${slot}`), 'utf8').split('\n')[0] ?? ''; }

  async [Symbol.asyncDispose](): Promise<void> {
    delete process.env['DBUS_SYSTEM_BUS_ADDRESS'];
    await this.#service?.[Symbol.asyncDispose]();
    await run('umount', [this.path('mount/bundle')]); // of a service that was killed at it; else there is none
    await this.#resources.disposeAsync();
  }

  async #build(bus: string): Promise<void> {
    for (const name of ['boot', 'data', 'mount', 'state']) mkdirSync(this.path(name));
    for (const [name, text] of Object.entries({ order: 'A B', A: `${TRIES}`, B: `${TRIES}` })) writeFileSync(this.path(`boot/${name}`), `${text}\n`);
    writeFileSync(this.path('slot-A'), Buffer.concat([Buffer.from(`${JSON.stringify({ compatible: COMPATIBLE, version: '0.1.0+1' })}\n`), Buffer.alloc(1_000_000)]));
    writeFileSync(this.path('slot-B'), Buffer.alloc(1_000_000));
    writeFileSync(this.path('boot-loader'), BOOT_LOADER);
    chmodSync(this.path('boot-loader'), 0o755);
    const slots = (['A', 'B'] as const).map((name, index) => `[slot.rootfs.${index}]\ndevice=${this.path(`slot-${name}`)}\ntype=raw\nbootname=${name}\n`).join('');
    writeFileSync(this.places.systemConf, `[system]\ncompatible=${COMPATIBLE}\nbootloader=custom\ndata-directory=${this.path('data')}\nmountprefix=${this.path('mount')}\n[handlers]\nbootloader-custom-backend=${this.path('boot-loader')}\n[keyring]\npath=${this.path('ours.pem')}\n${slots}`);
    for (const name of ['ours', 'foreign']) {
      const made = await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=${name}`, '-keyout', this.path(`${name}.key`), '-out', this.path(`${name}.pem`)]);
      if (made.code !== 0) throw new Error(made.output);
    }
    writeFileSync(this.path('bus.conf'), `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=${this.path('bus')}</listen><auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`);
    const daemon = this.#resources.use(new Program(bus, [`--config-file=${this.path('bus.conf')}`, '--nofork', '--print-address']));
    await until('the bus', () => daemon.stdout.includes('unix:'), { hopeless: () => (daemon.running ? undefined : daemon.output) });
    process.env['DBUS_SYSTEM_BUS_ADDRESS'] = `unix:path=${this.path('bus')}`;
    await this.boot();
  }

  async #serve(slot: string): Promise<void> {
    const service = new Program(this.#rauc, [`--conf=${this.places.systemConf}`, `--override-boot-slot=${slot}`, 'service']);
    this.#service = service;
    for (let isThere = false; !isThere;) {
      if (!service.running) throw new Error(service.output);
      isThere = (await run('busctl', ['get-property', 'de.pengutronix.rauc', '/', 'de.pengutronix.rauc.Installer', 'BootSlot'])).stdout.includes(slot);
    }
  }
}
