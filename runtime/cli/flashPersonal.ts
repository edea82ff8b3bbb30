/** What makes a card of our image this one: `board.yaml` and `tenzro.yaml` for its first start, of the flags of `tenzro flash`, judged beforehand by what reads them there. */
import { readFile } from 'node:fs/promises';
import type { BootFile } from '#provisioning/flash/bootFiles.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { BOOT_FILES, planFirstBoot, type FileReport, type FoundFile } from '#runtime/board/firstBoot.ts';
import { bootTools } from '#runtime/boarding.ts';
import { readSecret } from './fleet/passphrase.ts';
import { APP_ROOT, type Io } from './io.ts';

export interface PersonalFlags {
  readonly hostname?: string;
  readonly timezone?: string;
  readonly country?: string;
  /** Name of a network; its passphrase is asked for. */
  readonly wifi?: string;
  /** A file with that passphrase. */
  readonly wifiFile?: string;
  /** A `tenzro.yaml` under whatever name. */
  readonly config?: string;
}

/** Asks for the passphrase of a network. The caller zeroes the files. Throws `flash.boot_files` for what the card would not take over, and `cli.usage`. */
export async function personalFiles(io: Io, flags: PersonalFlags): Promise<readonly BootFile[]> {
  if (flags.wifiFile !== undefined && flags.wifi === undefined) throw new TenzroError('cli.usage', '--wifi-file is the passphrase of which network? Name it with --wifi');
  const files: BootFile[] = [];
  const { hostname, timezone, country, wifi } = flags;
  if ([hostname, timezone, country, wifi].some((given) => given !== undefined)) files.push({ name: 'board.yaml', bytes: await boardYaml(io, flags) });
  if (flags.config !== undefined) files.push({ name: 'tenzro.yaml', bytes: await readFile(flags.config).catch((cause: unknown) => { throw new TenzroError('flash.boot_files', `${flags.config} cannot be read: ${messageOf(cause)}`, { cause }); }) });
  const [bad] = reportsOf(files);
  if (!bad) return files;
  for (const { bytes } of files) bytes.fill(0);
  throw new TenzroError('flash.boot_files', `the card would not take over ${linesOf(bad).join('; ')}`);
}

/** For each of the files that our image reads and would not take over, why. */
export function warningsOf(files: readonly BootFile[]): readonly string[] {
  return reportsOf(files).flatMap((report) => linesOf(report));
}

/** JSON's strings are strings of YAML 1.2, too (§1.3): no name can be more than a name. */
async function boardYaml(io: Io, { hostname, timezone, country, wifi, wifiFile }: PersonalFlags): Promise<Buffer> {
  const asked = wifi === undefined ? undefined : await readSecret(io, `Passphrase of ${printable(wifi)} (not shown; none for an open network): `, wifiFile);
  const networks = asked === undefined ? undefined : [{ ssid: wifi, passphrase: asked.toString('latin1') }];
  asked?.fill(0);
  const radio = { country, networks };
  return Buffer.from(`${JSON.stringify({ hostname, timezone, ...Object.values(radio).some((part) => part !== undefined) ? { wifi: radio } : {} })}\n`);
}

function reportsOf(files: readonly BootFile[]): readonly FileReport[] {
  const found = files.flatMap(({ name, bytes }): FoundFile[] => {
    const known = BOOT_FILES.find((candidate) => candidate === name);
    return known === undefined ? [] : [{ name: known, bytes }];
  });
  return planFirstBoot(found, [], bootTools(APP_ROOT)).reports;
}

function linesOf({ name, problems }: FileReport): readonly string[] {
  return problems.map(({ place, key, message, hint }) => `${name}${place ? `:${place.line}:${place.column}` : ''}: ${key === '' ? '' : `${key}: `}${message}${hint === undefined ? '' : ` (${hint})`}`);
}
