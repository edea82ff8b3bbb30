/** What `tenzro doctor` looks at. Every probe reads under a root directory, `/` on a real machine. */
import { accessSync, constants, existsSync, readFileSync, readdirSync, realpathSync, statSync, statfsSync } from 'node:fs';
import { cpus, freemem, totalmem } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { readBootLog, readImaLog } from '#drivers/system/bootLogs.ts';
import { keepOutOfDumps } from '#provisioning/identity/memory.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Maybe } from '#runtime/core/types.ts';

/** `absent` is no fault: it costs what `means` says. `problem` is one to mend. */
export interface Finding {
  readonly area: string;
  readonly state: 'ok' | 'absent' | 'problem';
  readonly detail: string;
  /** What it means for trust or function, and what to do; '' where it is fine. */
  readonly means: string;
}

export interface Machine {
  /** Where /dev, /proc, /sys and /run are looked up. */
  readonly root: string;
  /** PATH, for programs. */
  readonly path: string;
  readonly dataDir: string;
}

export const ok = (area: string, detail: string): Finding => ({ area, state: 'ok', detail, means: '' });
export const absent = (area: string, detail: string, means: string): Finding => ({ area, state: 'absent', detail, means });
export const problem = (area: string, detail: string, means: string): Finding => ({ area, state: 'problem', detail, means });

const GIB = 1024 ** 3;
/** Boards are sold by what the kernel and a GPU take their part of: 1 GB, and 512 MB (Zero 2 W). */
const MEMORY_ROOMY_BYTES = 0.9 * GIB;
const MEMORY_MIN_BYTES = 0.35 * GIB;
const FREE_DISK_MIN_BYTES = 0.5 * GIB;
const NODE_MAJOR_MIN = 24;

export function probeMachine(machine: Machine): readonly Finding[] {
  return [nodeVersion(), memory(), tpm(machine), ...BUSES.map((bus) => probeBus(machine, bus)), ...clock(machine), ...disk(machine), coreDumps(machine)];
}

/** Asks for what really happens, by setting the filter as the gateway does: core(5). */
function coreDumps({ root }: Machine): Finding {
  const filter = keepOutOfDumps();
  if (filter.kind === 'value') return ok('core dumps', 'leave the memory out that secrets are in');
  const pattern = join(root, 'proc/sys/kernel/core_pattern');
  const isPiped = existsSync(pattern) && readFileSync(pattern, 'utf8').startsWith('|');
  const detail = `cannot be told to leave secrets out: ${filter.reason}`;
  return isPiped ? problem('core dumps', detail, 'The kernel pipes dumps to a program that may keep them: set LimitCORE=0 for the service.') : absent('core dumps', detail, 'A crash could write secrets to a file: set LimitCORE=0 for the service.');
}

function nodeVersion(): Finding {
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= NODE_MAJOR_MIN) return ok('node', `${process.version} with OpenSSL ${process.versions.openssl}`);
  return problem('node', process.version, `Node ${NODE_MAJOR_MIN} is needed: run through npm, which brings it.`);
}

function memory(): Finding {
  const detail = `${gib(totalmem())} in all, ${gib(freemem())} free, ${cpus().length} processors`;
  if (totalmem() >= MEMORY_ROOMY_BYTES) return ok('memory', detail);
  if (totalmem() >= MEMORY_MIN_BYTES) return absent('memory', detail, 'Enough for the gateway with small models, and for little beside it; infer.enabled: false saves the most.');
  return problem('memory', detail, 'Less than the gateway needs under load: leave models out (infer.enabled: false).');
}

function tpm({ root, path }: Machine): Finding {
  const device = join(root, 'dev/tpmrm0');
  if (existsSync(device)) {
    if (isUsable(device)) return ok('tpm', '/dev/tpmrm0: blocks are attested by this TPM; how far to trust it (dtpm, enrolled) the verifier computes');
    return problem('tpm', '/dev/tpmrm0 is there, but this user may not open it', 'Add the user to group tss; until then blocks are not attested by it.');
  }
  if (findProgram(path, 'swtpm') !== undefined) return absent('tpm', 'no /dev/tpmrm0; swtpm is installed', "Trust level 'emulated': it shows the procedure, and whoever owns this machine could forge it.");
  return absent('tpm', 'no /dev/tpmrm0 and no swtpm', "Trust level 'software': signatures only. Add a TPM, or for trials: apt install swtpm.");
}

/** Whether there is anything for a verifier to compare with what the maker of an image says. */
export async function probeMeasuredBoot(root: string): Promise<readonly Finding[]> {
  const logs = { root, maxBytes: LIMITS.bootLogBytesMax };
  return Promise.all([
    probeLog('boot.log', () => readBootLog(logs), 'Nobody can tell what this machine booted; where the TPM and the data are trusted for other reasons, that is no fault.'),
    probeLog('boot.ima', () => readImaLog(logs, 0), 'Nobody can tell which files ran. To have it: ima_policy=tcb on the kernel command line.'),
  ]);
}

async function probeLog(area: string, look: () => Promise<Maybe<Uint8Array>>, means: string): Promise<Finding> {
  try {
    const log = await look();
    return log.kind === 'value' ? ok(area, `${log.value.length} bytes: recorded in the chain, compared by verifiers whose policy has reference values (tenzro reference)`) : absent(area, log.reason, means);
  } catch (error) {
    return problem(area, messageOf(error), means);
  }
}

interface Bus {
  readonly area: string;
  readonly folder: string;
  readonly names: RegExp;
  readonly group: string;
  readonly means: string;
  /** sysfs entries are read, device nodes are opened for reading and writing. */
  readonly isNode: boolean;
}

/** Linux Documentation/admin-guide/devices.txt and Documentation/ABI for the names. */
const BUSES: readonly Bus[] = [
  { area: 'i2c', folder: 'dev', names: /^i2c-\d+$/, group: 'i2c', isNode: true, means: 'No I²C sensors. On a Raspberry Pi: dtparam=i2c_arm=on.' },
  { area: 'spi', folder: 'dev', names: /^spidev\d+\.\d+$/, group: 'spi', isNode: true, means: 'No SPI sensors. On a Raspberry Pi: dtparam=spi=on.' },
  { area: 'gpio', folder: 'dev', names: /^gpiochip\d+$/, group: 'gpio', isNode: true, means: 'No buttons, relays or counters on pins.' },
  { area: 'serial', folder: 'dev', names: /^tty(USB|ACM|AMA|THS)\d+$/, group: 'dialout', isNode: true, means: 'No serial or Modbus RTU devices, no Firmata boards.' },
  { area: '1-wire', folder: 'sys/bus/w1/devices', names: /^[0-9a-f]{2}-[0-9a-f]{12}$/, group: '', isNode: false, means: 'No 1-Wire sensors. On a Raspberry Pi: dtoverlay=w1-gpio.' },
  { area: 'iio', folder: 'sys/bus/iio/devices', names: /^iio:device\d+$/, group: '', isNode: false, means: 'No converters or inertial sensors through the kernel.' },
];

function probeBus({ root }: Machine, bus: Bus): Finding {
  const folder = join(root, bus.folder);
  const found = list(folder).filter((name) => bus.names.test(name)).toSorted();
  if (found.length === 0) return absent(bus.area, 'none', bus.means);
  const closed = bus.isNode ? found.filter((name) => !isUsable(join(folder, name))) : [];
  if (closed.length > 0) return problem(bus.area, `${closed.join(', ')}: this user may not open ${closed.length === 1 ? 'it' : 'them'}`, `Add the user to group ${bus.group}.`);
  return ok(bus.area, found.join(', '));
}

function clock({ root }: Machine): Finding[] {
  const rtc = list(join(root, 'sys/class/rtc'));
  const service = NTP_SIGNS.find(({ file }) => existsSync(join(root, file)));
  return [
    rtc.length > 0 ? ok('clock.rtc', rtc.join(', ')) : absent('clock.rtc', 'no real-time clock', 'After a power cut without network the wall clock is wrong until it is set; a start before the newest entry and every step are recorded.'),
    service ? ok('clock.ntp', service.says) : absent('clock.ntp', 'no synchronised time service was found', 'Times in entries may be off; their order is not affected.'),
  ];
}

/** systemd-timesyncd(8) touches the first at its first synchronisation; chrony and ntpd keep theirs while they run. */
const NTP_SIGNS = [
  { file: 'run/systemd/timesync/synchronized', says: 'systemd-timesyncd is synchronised' },
  { file: 'run/chrony/chronyd.pid', says: 'chronyd runs' },
  { file: 'run/ntpd.pid', says: 'ntpd runs' },
] as const;

/** statfs(2) f_type. */
const FILE_SYSTEMS = new Map([[0xef53, 'ext4'], [0x9123683e, 'btrfs'], [0x58465342, 'xfs'], [0x01021994, 'tmpfs'], [0x794c7630, 'overlayfs'], [0x4d44, 'FAT'], [0x6969, 'NFS'], [0xf2f52010, 'F2FS'], [0x2fc12fc1, 'ZFS']]);

function disk({ root, dataDir }: Machine): Finding[] {
  const existing = firstExisting(dataDir);
  const { bavail, bsize, type } = statfsSync(existing);
  const name = FILE_SYSTEMS.get(type) ?? `file system 0x${type.toString(16)}`;
  const freeBytes = bavail * bsize;
  const detail = `${dataDir} on ${name}, ${gib(freeBytes)} free`;
  const findings: Finding[] = [];
  if (name === 'tmpfs') findings.push(problem('disk', detail, 'It lives in memory: a power cut takes the chain with it. Set dataDir to a disk.'));
  else if (name === 'NFS' || name === 'FAT') findings.push(problem('disk', detail, 'LMDB needs a local file system with mmap and fsync: set dataDir to one.'));
  else if (freeBytes < FREE_DISK_MIN_BYTES) findings.push(problem('disk', detail, 'Little is left: free space or lower ledger.retention.maxBytes.'));
  else findings.push(ok('disk', detail));
  const medium = mediumOf(root, statSync(existing).dev);
  if (medium !== undefined) findings.push(medium);
  if (existing === dataDir && !isUsable(dataDir)) findings.push(problem('data', `${dataDir} is not writable for this user`, 'Run as its owner, or set TENZRO_DATA.'));
  return findings;
}

/** Device numbers as Linux encodes them in st_dev (glibc sys/sysmacros.h). */
function mediumOf(root: string, dev: number): Finding | undefined {
  const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
  const link = join(root, 'sys/dev/block', `${major}:${minor}`);
  if (!existsSync(link)) return undefined;
  let folder = realpathSync(link);
  if (!existsSync(join(folder, 'queue')) && existsSync(join(dirname(folder), 'queue'))) folder = dirname(folder);
  const device = folder.split('/').at(-1) ?? '';
  if (device.startsWith('mmcblk')) return ok('disk.medium', `${device}: SD card or eMMC; its wear is kept low by flushing in groups (ledger.batchDelayMs)`);
  const rotational = readFileSync(join(folder, 'queue/rotational'), 'utf8').trim() === '1';
  return ok('disk.medium', `${device}: ${rotational ? 'says that it rotates (virtual disks do): flushes may take some 10 ms' : 'solid state'}`);
}

function firstExisting(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : firstExisting(dirname(path));
}

/** The first program of that name on PATH. */
function findProgram(path: string, name: string): string | undefined {
  return path.split(delimiter).map((folder) => join(folder, name)).find((file) => folderHas(file));
}
const folderHas = (file: string): boolean => statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;

function isUsable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false; // whatever forbids it, it cannot be used
  }
}

export const list = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : []);
const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;
