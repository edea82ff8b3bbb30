/**
 * What the files on the boot partition mean for this start: a plan, which runtime/boarding.ts executes. Pure.
 * INVARIANTS: a file is taken over whole or not at all · what was taken over is on the data partition before its file is touched · a file that was taken over
 * and is still there is only wiped, never taken over again.
 */
import { toHex } from '#runtime/core/bytes.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { readBoardYaml, readNetworkConfig, readUserData, type BootDocument, type Nearest } from './bootYaml.ts';
import { readCustomToml } from './customToml.ts';
import { readImagerScript } from './imagerScript.ts';
import { merged, type FileProblem, type FileReading, type Wishes } from './wishes.ts';

/** In the order in which they count: what stands further down wins. */
export const BOOT_FILES = ['firstrun.sh', 'custom.toml', 'network-config', 'user-data', 'board.yaml', 'tenzro.yaml'] as const;
export type BootFileName = (typeof BOOT_FILES)[number];
export const BOOT_FILE_BYTES_MAX = 65_536;

export interface FoundFile {
  readonly name: BootFileName;
  /** At most `BOOT_FILE_BYTES_MAX` + 1. May hold secrets. */
  readonly bytes: Uint8Array;
}

/** How the plan reads: parsers of other rooms. */
export interface BootTools {
  readonly parseYaml: (text: string) => BootDocument;
  readonly nearest: Nearest;
  /** What is wrong with a `tenzro.yaml`. */
  readonly checkConfig: (text: string) => readonly FileProblem[];
}

/** A file that was taken over and is not wiped yet. */
export interface Wiping {
  readonly name: BootFileName;
  /** SHA-256, hexadecimal. */
  readonly digest: string;
}

export interface FileReport {
  readonly name: BootFileName;
  readonly problems: readonly FileProblem[];
}

export interface TakenFile extends Wiping {
  /** What was taken over, in words and without a secret. */
  readonly took: readonly string[];
  readonly ignored: readonly string[];
}

export interface FirstBootPlan {
  readonly taken: readonly TakenFile[];
  /** Of the taken ones. */
  readonly wishes: Wishes;
  /** The text of a tenzro.yaml without a problem. */
  readonly config: string | undefined;
  /** Were taken over at an earlier start. */
  readonly onlyWiped: readonly Wiping[];
  /** Files that stay as they are. */
  readonly reports: readonly FileReport[];
}

export function planFirstBoot(files: readonly FoundFile[], wiping: readonly Wiping[], tools: BootTools): FirstBootPlan {
  const found = BOOT_FILES.flatMap((name) => files.filter((file) => file.name === name)).map((file) => ({ ...file, digest: toHex(sha256(file.bytes)) }));
  const isOver = ({ name, digest, bytes }: (typeof found)[number]): boolean => wiping.some((old) => old.name === name && (old.digest === digest || isHalfWiped(bytes)));
  const judged = found.filter((file) => !isOver(file)).map((file) => ({ ...file, ...judge(file, tools) }));
  const taken = judged.filter(({ reading }) => reading.problems.length === 0);
  return {
    taken: taken.map(({ name, digest, reading, text }) => ({ name, digest, took: name === 'tenzro.yaml' ? [`configuration of the gateway (${text.length} characters)`] : wordsOf(reading.wishes), ignored: reading.ignored })),
    wishes: merged(taken.map(({ reading }) => reading.wishes)),
    config: taken.find(({ name }) => name === 'tenzro.yaml')?.text,
    onlyWiped: found.filter(isOver).map(({ name, digest }) => ({ name, digest })),
    reports: judged.filter(({ reading }) => reading.problems.length > 0).map(({ name, reading }) => ({ name, problems: reading.problems })),
  };
}

/** No text holds a NUL, and wiping writes nothing else. */
const isHalfWiped = (bytes: Uint8Array): boolean => bytes.length === 0 || bytes.includes(0);

interface Judged {
  readonly text: string;
  readonly reading: FileReading;
}

const NOTHING: FileReading = { wishes: { networks: [] }, ignored: [], problems: [] };
const refused = (message: string): Judged => ({ text: '', reading: { ...NOTHING, problems: [{ place: undefined, key: '', message, hint: undefined }] } });

function judge({ name, bytes }: FoundFile, tools: BootTools): Judged {
  if (bytes.length > BOOT_FILE_BYTES_MAX) return refused(`the file is larger than ${BOOT_FILE_BYTES_MAX} bytes`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return refused('the file is not text in UTF-8');
  }
  if (text.includes('\0')) return refused('the file is not text: it holds a zero byte');
  try {
    return { text, reading: read(name, text, tools) };
  } catch (error) {
    return refused(`the file cannot be read: ${messageOf(error)}`); // nested or repeated beyond what the parser bears
  }
}

function read(name: BootFileName, text: string, { parseYaml, nearest, checkConfig }: BootTools): FileReading {
  switch (name) {
    case 'firstrun.sh': return readImagerScript(text);
    case 'custom.toml': return readCustomToml(text);
    case 'network-config': return readNetworkConfig(parseYaml(text));
    case 'user-data': return readUserData(parseYaml(text));
    case 'board.yaml': return readBoardYaml(parseYaml(text), nearest);
    case 'tenzro.yaml': return { ...NOTHING, problems: checkConfig(text) };
  }
}

function wordsOf({ hostname, timezone, country, networks }: Wishes): readonly string[] {
  return [
    ...hostname === undefined ? [] : [`host name ${hostname}`],
    ...timezone === undefined ? [] : [`time zone ${timezone}`],
    ...country === undefined ? [] : [`Wi-Fi country ${country}`],
    ...networks.map(({ ssid }) => `Wi-Fi network ${ssid}`),
  ];
}
