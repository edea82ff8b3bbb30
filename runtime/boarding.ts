/** Composition root of the first boot: joins what boot files mean (runtime/board) with the configuration's rules and the card. */
import { ConfigError, readConfigText } from '#runtime/config/load.ts';
import { nearest } from '#runtime/config/nearest.ts';
import { parseDocumentText } from '#runtime/config/document.ts';
import { planFirstBoot, type BootTools, type FileReport, type FirstBootPlan, type TakenFile, type Wiping } from '#runtime/board/firstBoot.ts';
import { withBootNetworks } from '#runtime/board/wpaFile.ts';
import type { FileProblem } from '#runtime/board/wishes.ts';
import type { BoardCard } from './boardCard.ts';

/** What later starts and `tenzro status` have to know: board/boot-files.json. Nothing open: no file. */
export interface BootRecord {
  readonly wiping: readonly Wiping[];
  readonly reports: readonly FileReport[];
}

interface Taken extends Omit<TakenFile, 'digest'> {
  /** ISO 8601, by a clock that may have been wrong. */
  readonly at: string;
}

const HISTORY_MAX = 16;
const NO_RECORD: BootRecord = { wiping: [], reports: [] };

/** Does what the files on the boot partition ask for, once. Returns what to say about it. Rejects with `board.boot_partition` when they could not be wiped: the next start goes on. */
export async function firstBoot(card: BoardCard, { appRoot, now }: { readonly appRoot: string; readonly now: string }): Promise<FirstBootPlan> {
  const files = await card.find();
  try {
    const before = parseRecord(await card.read('record'));
    const plan = planFirstBoot(files, before.wiping, bootTools(appRoot));
    const wiping = [...plan.taken.map(({ name, digest }) => ({ name, digest })), ...plan.onlyWiped];
    await takeOver(card, plan);
    if (plan.taken.length > 0) await addToHistory(card, plan, now);
    await writeRecord(card, { wiping, reports: plan.reports });
    if (wiping.length + before.wiping.length > 0) {
      await card.whileWritable(async () => {
        for (const { name } of wiping) await card.wipe(name);
        await card.note(noteOf(historyOf(await card.read('history'))));
      });
      await writeRecord(card, { wiping: [], reports: plan.reports });
    }
    return plan;
  } finally {
    for (const { bytes } of files) bytes.fill(0);
  }
}

async function takeOver(card: BoardCard, { config, wishes }: FirstBootPlan): Promise<void> {
  if (config !== undefined) await card.keep('config', config);
  if (wishes.hostname !== undefined) await card.keep('hostname', wishes.hostname);
  if (wishes.timezone !== undefined) await card.keep('timezone', wishes.timezone);
  if (wishes.country !== undefined || wishes.networks.length > 0) await card.keep('wifi', withBootNetworks(await card.read('wifi') ?? '', wishes.country, wishes.networks));
}

async function writeRecord(card: BoardCard, record: BootRecord): Promise<void> {
  if (record.wiping.length + record.reports.length === 0) await card.forget('record');
  else await card.keep('record', JSON.stringify(record));
}

/** One that is damaged is none: files are looked at again. */
export function parseRecord(text: string | undefined): BootRecord {
  const parsed = parseOwnJson(text) as Partial<BootRecord> | undefined;
  return parsed && Array.isArray(parsed.wiping) && Array.isArray(parsed.reports) ? parsed as BootRecord : NO_RECORD;
}

function historyOf(text: string | undefined): readonly Taken[] {
  const parsed = parseOwnJson(text);
  return Array.isArray(parsed) ? parsed as readonly Taken[] : [];
}

/** Root alone writes it; it can only be torn. */
function parseOwnJson(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

async function addToHistory(card: BoardCard, { taken }: FirstBootPlan, at: string): Promise<void> {
  const history = [...historyOf(await card.read('history')), ...taken.map(({ name, took, ignored }) => ({ at, name, took, ignored }))];
  await card.keep('history', JSON.stringify(history.slice(-HISTORY_MAX)));
}

/** For who takes the card out: with the line ends of every system. */
function noteOf(history: readonly Taken[]): string {
  const lines = history.flatMap(({ at, name, took, ignored }) => [`${at}  ${name}`, ...took.map((what) => `  taken over: ${what}`), ...ignored.map((what) => `  not done:   ${what}`)]);
  return ['Tenzro Edge has taken over these files from this partition, and wiped them. Lay new ones here to change something.', '', ...lines, ''].join('\r\n');
}

/** Parsers of the configuration, for a plan. */
export function bootTools(appRoot: string): BootTools {
  return { parseYaml: parseDocumentText, nearest, checkConfig: (text) => configProblems(text, appRoot) };
}

/** As `tenzro config check` says it. */
function configProblems(text: string, appRoot: string): readonly FileProblem[] {
  try {
    readConfigText(text, '/etc/tenzro-edge/tenzro.yaml', appRoot);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ place, key, message, hint }) => ({ place, key, message, hint }));
  }
}
