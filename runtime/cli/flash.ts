/** `tenzro flash`: an image onto a card or into a file. Shows what it would overwrite and asks; the room provisioning/flash does the rest. */
import { realpath, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { basename } from 'node:path';
import { bmapOf, checkDigest, signaturesBeside, statedDigest } from '#provisioning/flash/beside.ts';
import { bootPartition, HEAD_BYTES, putBootFiles, readBootFiles } from '#provisioning/flash/bootFiles.ts';
import { candidates, checkedDisk, disksHere, type Disk } from '#provisioning/flash/disks.ts';
import { beginningOf, openImage, type Image } from '#provisioning/flash/image.ts';
import { Target } from '#provisioning/flash/target.ts';
import { writeImage } from '#provisioning/flash/write.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { personalFiles, warningsOf, type PersonalFlags } from './flashPersonal.ts';
import { EXIT, type Io } from './io.ts';

export interface FlashFlags extends PersonalFlags {
  /** A file; false: none, also where one lies beside the image. */
  readonly bmap?: string | false;
  /** Files for the boot partition. */
  readonly put?: readonly string[];
  readonly forceFixed?: boolean;
  readonly yes?: boolean;
  readonly json?: boolean;
}

/** What `target` names. */
interface Place {
  readonly path: string;
  /** Undefined: a file. */
  readonly disk: Disk | undefined;
  readonly isThere: boolean;
}

export async function flash(io: Io, imagePath: string, targetPath: string | undefined, flags: FlashFlags): Promise<void> {
  io.catchSignals();
  const say = (text: string): void => { if (!flags.json) io.line(text); };
  const image = await openImage(imagePath, io.signal);
  if (targetPath === undefined) return listCandidates(io, image, flags);
  const place = await placeOf(targetPath, image, flags, io.signal);
  const bmap = flags.bmap === false ? undefined : await bmapOf(image, flags.bmap);
  tellImage(say, image, bmap?.path);
  const checked = await checkImage(io, image, say, flags);
  const made = await personalFiles(io, flags);
  const files = await readBootFiles(made, flags.put ?? [], io.signal);
  const bootPlace = files.length > 0 ? bootPartition(await beginningOf(image, HEAD_BYTES, io.signal)) : undefined;
  if (made.length > 0 && bootPlace?.isOurs === false) throw new TenzroError('flash.boot_files', `no image of Tenzro Edge, and so nothing would read ${made.map(({ name }) => name).join(' and ')}: --put lays files of the names that it reads`);
  if (bootPlace?.isOurs) for (const line of warningsOf(files)) io.error(`the card will not take over ${printable(line)}`);
  tellPlace(say, place);
  if ((place.disk || place.isThere) && !flags.yes) await agree(io, place);
  const bar = new Bar(io, flags.json === true);
  let state = 'nothing was written';
  try {
    await using target = await Target.open(place.path, place.disk?.sectorBytes);
    state = `${printable(place.path)} shows no system now; the same command again begins anew`;
    const written = await writeImage({ image, bmap: bmap?.bmap, target, isFile: !place.disk, seen: (phase, done, total) => { bar.show(phase === 'write' ? 'writing  ' : 'verifying', done, total); }, signal: io.signal });
    bar.end();
    state = `${printable(place.path)} holds the image, and perhaps not all files that belong with it`;
    if (bootPlace) {
      await putBootFiles(place.path, bootPlace, files, io.signal);
      await target.flush();
      say(`on its boot partition: ${files.map(({ name }) => name).join(', ')}`);
    }
    if (flags.json) return io.json({ image: image.path, target: place.path, ...written, put: files.map(({ name }) => name), checksum: checked ? 'good' : 'none', bmap: bmap?.path ?? null, verified: true });
    io.line(`${printable(place.path)} holds the image: ${sizeText(written.writtenBytes)} written and read back${written.isDirect ? '' : ' (perhaps from memory: this file system knows no other way)'}${place.disk ? '; it can be taken out' : ''}`);
  } catch (cause) {
    bar.end();
    if (io.signal.aborted) io.error(`stopped: ${state}`);
    throw cause;
  } finally {
    for (const { bytes } of files) bytes.fill(0);
  }
}

/** Throws `flash.target`, `flash.fixed`. */
async function placeOf(named: string, image: Image, { forceFixed = false }: FlashFlags, signal: AbortSignal): Promise<Place> {
  const about = await stat(named).catch((cause: unknown) => { if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined; throw cause; });
  if (!about) {
    if (named.startsWith('/dev/')) throw new TenzroError('flash.target', `there is no ${named}; a file of that name would only fill this machine's memory`);
    return { path: named, disk: undefined, isThere: false };
  }
  const path = await realpath(named);
  if (about.isBlockDevice()) return { path, disk: checkedDisk(await disksHere(signal), path, { imageBytes: image.sizeBytes, forceFixed }), isThere: true };
  if (!about.isFile()) throw new TenzroError('flash.target', `${named} is neither a disk nor a file`);
  if (path === await realpath(image.path)) throw new TenzroError('flash.target', `${named} is the image itself`);
  return { path, disk: undefined, isThere: true };
}

async function listCandidates(io: Io, image: Image, { json }: FlashFlags): Promise<void> {
  const disks = candidates(await disksHere(io.signal));
  io.exitCode = EXIT.unable;
  if (json) return io.json({ targets: disks.map(({ path, model, sizeBytes }) => ({ path, model, sizeBytes, fits: sizeBytes >= image.sizeBytes })) });
  if (disks.length === 0) return io.error(`no card or stick is here that nothing uses. The image needs ${sizeText(image.sizeBytes)}; put one in, or unmount it`);
  io.error(`onto which one? tenzro flash ${printable(image.path)} DEVICE`);
  for (const disk of disks) for (const line of diskLines(disk)) io.error(line);
}

function tellImage(say: (text: string) => void, image: Image, bmapPath: string | undefined): void {
  say(`image   ${printable(basename(image.path))}, ${sizeText(image.sizeBytes)}${image.isXz ? `, packed ${sizeText(image.fileBytes)}` : ''}${bmapPath === undefined ? '' : `, block map ${printable(basename(bmapPath))}`}`);
}

/** True where there were checksums. Throws `flash.checksum`. */
async function checkImage(io: Io, image: Image, say: (text: string) => void, flags: FlashFlags): Promise<boolean> {
  const stated = await statedDigest(image);
  if (!stated) {
    say('        no SHA256SUMS beside it: nobody has said what it has to be');
    return false;
  }
  const bar = new Bar(io, flags.json === true);
  await checkDigest(image, stated, (bytes) => { bar.show('checking ', bytes, image.fileBytes); }, io.signal).finally(() => { bar.end(); });
  say('        its checksum is the one in SHA256SUMS');
  for (const { file, check } of await signaturesBeside(image)) say(`        ${printable(basename(file))} signs these; not checked here, you do it by: ${check}`);
  return true;
}

function tellPlace(say: (text: string) => void, { path, disk, isThere }: Place): void {
  if (!disk) return say(`target  ${printable(path)}, a file${isThere ? ' that is there already' : ''}`);
  const [first = '', ...rest] = diskLines(disk);
  say(`target  ${first}`);
  for (const line of rest) say(`        ${line}`);
}

function diskLines(disk: Disk): readonly string[] {
  const about = (part: Disk): string => [sizeText(part.sizeBytes), part.fileSystem, part.label === '' ? '' : `"${part.label}"`].filter((text) => text !== '').join(', ');
  const kind = [disk.model, disk.transport].filter((text) => text !== '').join(', ');
  return [`${disk.path}  ${about(disk)}${kind === '' ? '' : ` (${kind})`}`, ...disk.children.map((part) => `  ${part.path}  ${about(part)}`)].map(printable);
}

/** Throws `cli.usage` where nobody can be asked, or says no. */
async function agree(io: Io, { path }: Place): Promise<void> {
  if (!process.stdin.isTTY) throw new TenzroError('cli.usage', `all that is on ${path} would be lost, and there is no terminal to ask on: --yes says yes`);
  using lines = createInterface({ input: process.stdin, output: process.stderr });
  const gone = new AbortController();
  lines.once('SIGINT', () => { io.stop(EXIT.unable); }).once('close', () => { gone.abort(); });
  const answer = await lines.question(`All that is on ${printable(path)} will be lost. Write? (yes/no) `, { signal: AbortSignal.any([io.signal, gone.signal]) }).catch((cause: unknown) => {
    if (gone.signal.aborted && !io.signal.aborted) return ''; // the input ended
    throw cause;
  });
  if (!/^\s*y(?:es)?\s*$/i.test(answer)) throw new TenzroError('cli.usage', 'nothing was written');
}

const CELLS = 24;
const SHOW_EVERY_MS = 200;

/** On a terminal a line that is overwritten, else nothing: bytes, rate and what is left, of what the medium holds. */
class Bar {
  readonly #isShown: boolean;
  #phase = '';
  #startMs = 0;
  #lastMs = 0;

  constructor(io: Io, isQuiet: boolean) {
    this.#isShown = io.isTTY && !isQuiet;
  }

  show(phase: string, done: number, total: number): void {
    const nowMs = systemClock.monoMicros() / 1_000;
    if (phase !== this.#phase) [this.#phase, this.#startMs, this.#lastMs] = [phase, nowMs, 0];
    if (!this.#isShown || (nowMs - this.#lastMs < SHOW_EVERY_MS && done < total)) return;
    this.#lastMs = nowMs;
    process.stdout.write(`\r${barOf(phase, done, total, nowMs - this.#startMs)}\u001b[K${done < total ? '' : '\n'}`);
    if (done === total) this.#lastMs = 0;
  }

  /** The next text begins on a line of its own. */
  end(): void {
    if (this.#isShown && this.#lastMs > 0) process.stdout.write('\n');
    this.#lastMs = 0;
  }
}

/** `writing   [████····] 41 %  210.0 MiB of 512.0 MiB, 24.1 MiB/s, 0:13 left`. */
export function barOf(phase: string, done: number, total: number, elapsedMs: number): string {
  const cells = Math.floor(done / total * CELLS);
  const rate = elapsedMs > 0 ? done / elapsedMs * 1_000 : 0;
  const leftS = rate > 0 ? Math.ceil((total - done) / rate) : undefined;
  const left = leftS === undefined ? '' : `, ${sizeText(rate)}/s, ${Math.floor(leftS / 60)}:${String(leftS % 60).padStart(2, '0')} left`;
  return `${phase} [${'█'.repeat(cells)}${'·'.repeat(CELLS - cells)}] ${Math.floor(done / total * 100)} %  ${sizeText(done)} of ${sizeText(total)}${left}`;
}

function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(1)} ${units[power]}`;
}
