/** `npm run test:image`: boots cards under QEMU as a board would, with the real boot loader; docs/operate/image-testing.md. One machine at a time, no KVM. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openTools } from '#image/tools/tools.ts';
import { BOOT_LOADER } from './scenarios/bootLoader.ts';
import { CUTS } from './scenarios/cuts.ts';
import { FIRST_BOOT } from './scenarios/firstBoot.ts';
import { HARDSHIP } from './scenarios/hardship.ts';
import { RETURNS } from './scenarios/returns.ts';
import { UPDATE } from './scenarios/update.ts';
import { Skipped, type Scenario, type Stage, type Tier } from './scenario.ts';
import { Tools } from './tools.ts';

const SCENARIOS: readonly Scenario[] = [...BOOT_LOADER, ...FIRST_BOOT, ...UPDATE, ...RETURNS, ...HARDSHIP, ...CUTS];
const CUTS_DEFAULT = 10;
const TIERS: readonly Tier[] = ['quick', 'full'];
const CACHE = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
const KEPT = join(CACHE, 'tenzro', 'image');
const BOOT_SCRIPT = join(import.meta.dirname, '..', '..', 'image', 'disk', 'boot.cmd');

const say = (line: string): void => { process.stdout.write(`${line}\n`); };

const HELP = `npm run test:image [-- quick | full | SCENARIO …] [--image FILE] [--bundle FILE]

Tiers: quick (the default; the boot loader with miniature cards, two minutes at most) and full (quick, and what needs an image).

  --image FILE    card image built for emulation: npm run build:image -- --for emulation
  --bundle FILE   update bundle of a newer version of it
  --tools FOLDER  the tools tree; default: the locked ones, made when they are not there (as root)
  --boot FILE     boot script instead of image/disk/boot.cmd
  --seed N        of what is random; printed
  --cuts N        how many power cuts are replayed of each recording, and a fifth of it live; default 10
  --keep          keep the cards too; console logs are kept anyway, in ${KEPT}

Scenarios:
${SCENARIOS.map(({ name, tier, about }) => `  ${name.padEnd(14)} ${tier.padEnd(6)} ${about}`).join('\n')}`;

async function main(): Promise<boolean> {
  const { values, positionals } = parseArgs({
    options: { image: { type: 'string' }, bundle: { type: 'string' }, tools: { type: 'string' }, boot: { type: 'string' }, seed: { type: 'string' }, cuts: { type: 'string' }, keep: { type: 'boolean' }, help: { type: 'boolean' } }, allowPositionals: true,
  });
  const wanted = positionals.length === 0 ? ['quick'] : positionals;
  const unknown = wanted.filter((name) => !TIERS.some((tier) => tier === name) && !SCENARIOS.some((scenario) => scenario.name === name));
  if (values.help === true || unknown.length > 0) {
    say(unknown.length > 0 ? `no such tier or scenario: ${unknown.join(', ')}\n\n${HELP}` : HELP);
    return unknown.length === 0;
  }
  const scenarios = SCENARIOS.filter(({ name, tier }) => wanted.includes(name) || wanted.includes(tier) || wanted.includes('full'));
  const tools = new Tools(values.tools ?? (await openTools({ progress: say })).root);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const scenario of scenarios) {
    const folder = join(KEPT, scenario.name);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const stage: Stage = { tools, folder, shared: KEPT, bootScript: values.boot ?? BOOT_SCRIPT, image: values.image, bundle: values.bundle, seed, cuts: Number(values.cuts ?? CUTS_DEFAULT), say };
    counts[await attempt(scenario, stage)] += 1;
    if (values.keep !== true) for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) if (/\.(?:img|disklog)$/.test(file)) rmSync(join(folder, file));
  }
  say(`seed ${seed}; console logs in ${KEPT}`);
  say(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  return counts.failed === 0;
}

async function attempt(scenario: Scenario, stage: Stage): Promise<'passed' | 'failed' | 'skipped'> {
  const startedMs = performance.now();
  const tell = (outcome: string, detail: string): void => { say(`${scenario.name.padEnd(14)} ${((performance.now() - startedMs) / 1_000).toFixed(1).padStart(7)} s  ${outcome}  ${detail}`); };
  try {
    tell('passed', await scenario.run(stage));
    return 'passed';
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const outcome = error instanceof Skipped ? 'skipped' : 'failed';
    tell(outcome === 'failed' ? 'FAILED' : outcome, error.message);
    return outcome;
  }
}

for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143]] as const) process.once(signal, () => process.exit(code)); // machines end with us
process.exitCode = (await main()) ? 0 : 1;
