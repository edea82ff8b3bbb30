/**
 * `npm run test:vm`: boots a virtual machine with a TPM, twice, and runs the TPM's tests and the main job in it, and once with simulated radios for Wi-Fi
 * (docs/operate/testing.md). The machine sees of this one, read-only: /usr, a copy of the project, and node_modules. Nothing in it reaches a network.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { tenzro } from '#test/support/gateway.ts';
import { tempDir } from '#test/support/temp.ts';
import { cacheFolder, guestFiles, guestInitramfs } from './kernel.ts';
import { fastestAccelerator, QEMU, runMachine, type Accelerator } from './machine.ts';
import { BOOTS, type Boot } from './steps.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const POLICY = join(PROJECT, 'docs', 'policies', 'allow-emulated.yaml');
const NOT_COPIED: ReadonlySet<string> = new Set(['node_modules', '.git', '.tenzro']);
const QEMU_PACKAGE = 'qemu-system-x86';
/** For each boot. */
const LIMIT_MS = { kvm: 900_000, tcg: 1_800_000 } as const;
const KERNEL_OPTIONS = 'console=ttyS0 panic=-1';
/** IMA as it is used: every program, library and file that root reads, by SHA-256. */
const MEASURING = 'ima_policy=tcb ima_hash=sha256 ima_template=ima-ng';

interface Counts { readonly passed: number; readonly failed: number; readonly skipped: number }
interface VerifyReport { readonly checks: readonly { readonly code: string; readonly result: string; readonly detail: string }[] }
/** The machine's event log and IMA's list, replayed to what was quoted. */
const MEASURED: readonly string[] = ['boot.log', 'ima.log'];
const CRASHED: Counts = { passed: 0, failed: 1, skipped: 0 };

const say = (line: string): void => { process.stdout.write(`${line}\n`); };
const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

async function main(): Promise<boolean> {
  const { values: { refresh, kvm, tcg, help }, positionals } = parseArgs({ options: { refresh: { type: 'boolean' }, kvm: { type: 'boolean' }, tcg: { type: 'boolean' }, help: { type: 'boolean' } }, allowPositionals: true });
  const boots = BOOTS.map((planned) => ({ ...planned, steps: planned.steps.filter(({ name }) => positionals.length === 0 || positionals.includes(name)) }));
  const names = BOOTS.flatMap(({ steps }) => steps.map(({ name }) => name));
  const unknown = positionals.filter((name) => !names.includes(name));
  if (help === true || unknown.length > 0) {
    say(`npm run test:vm -- [--refresh] [--kvm | --tcg] [step …]\n  --refresh  fetch the kernel anew\n  steps: ${names.join(', ')}`);
    return unknown.length === 0;
  }
  const started = performance.now();
  installQemu();
  const files = guestFiles({ refresh: refresh === true, say });
  const accelerator = kvm === true ? 'kvm' : tcg === true ? 'tcg' : await fastestAccelerator(files.kernel);
  say(`Linux ${files.release}, ${accelerator === 'kvm' ? 'KVM' : 'no KVM that works: emulated instruction by instruction (TCG), ten to twenty times slower'}`);

  using work = tempDir('vm');
  mkdirSync(join(work.path, 'out'));
  snapshot(join(work.path, 'project'));
  copyFileSync(files.uefi.variables, join(work.path, 'variables'));
  const results: [string, number, Counts][] = [];
  for (const [index, planned] of boots.entries()) {
    const { steps } = planned;
    if (steps.length === 0) continue;
    const booted = performance.now();
    writeFileSync(join(work.path, 'initramfs'), guestInitramfs(files, join(import.meta.dirname, 'guest', 'init'), planned.modules));
    const counted = await boot(index + 1, planned, { folder: work.path, files, accelerator });
    const inSteps = counted.reduce((sum, [, ms]) => sum + ms, 0);
    results.push([`boot-${index + 1}`, performance.now() - booted - inSteps, { passed: 0, failed: 0, skipped: 0 }], ...counted);
    if (steps.some(({ name }) => name.startsWith('gateway'))) results.push(await verified(join(work.path, 'out', `boot-${index + 1}.tzp`), `verify-${index + 1}`));
  }
  const kept = join(cacheFolder(), 'last');
  rmSync(kept, { recursive: true, force: true });
  cpSync(work.path, kept, { recursive: true, filter: (path) => !path.endsWith('.sock') && path !== join(work.path, 'project') });

  for (const [name, ms, { passed, failed, skipped }] of results) say(`  ${name.padEnd(14)} ${seconds(ms).padStart(8)}   ${passed} passed, ${failed} failed, ${skipped} skipped`);
  say(`  ${'total'.padEnd(14)} ${seconds(performance.now() - started).padStart(8)}   console and logs: ${kept}`);
  const sum = (key: keyof Counts): number => results.reduce((total, [, , counts]) => total + counts[key], 0);
  say(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`);
  return sum('failed') === 0;
}

/** The guest caches what it has read: the project must not change under it. */
function snapshot(to: string): void {
  cpSync(PROJECT, to, { recursive: true, filter: (path) => !NOT_COPIED.has(relative(PROJECT, path)) });
  mkdirSync(join(to, 'node_modules')); // a share is mounted there
}

function installQemu(): void {
  const missing = [[QEMU, QEMU_PACKAGE], ['swtpm', 'swtpm'], ['tpm2_clear', 'tpm2-tools'], ['wpa_supplicant', 'wpasupplicant'], ['hostapd', 'hostapd'], ['iw', 'iw']].filter(([program = '']) => !`${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':').some((folder) => existsSync(join(folder, program))));
  if (missing.length === 0) return;
  const command = [...(process.getuid?.() === 0 ? [] : ['sudo', '-n']), 'apt-get', 'install', '-y', '--no-install-recommends', ...missing.map(([, name = '']) => name)];
  say(command.join(' '));
  const [program = '', ...args] = command;
  execFileSync(program, args, { stdio: 'inherit', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } });
}

/** Milliseconds and counts of each step: what the reporter's closing line says, and one failure for a step that has none. */
async function boot(number: number, { steps, isMeasured }: Boot, { folder, files, accelerator }: { readonly folder: string; readonly files: ReturnType<typeof guestFiles>; readonly accelerator: Accelerator }): Promise<[string, number, Counts][]> {
  const out = join(folder, 'out');
  writeFileSync(join(out, 'steps'), steps.map(({ name, command }) => `${name}\t${command}\n`).join(''));
  try {
    await runMachine({
      folder, kernel: files.kernel, initramfs: join(folder, 'initramfs'), commandLine: `${KERNEL_OPTIONS} ${isMeasured ? MEASURING : ''} "PROJECT=${PROJECT}"`,
      ...isMeasured ? { uefi: { code: files.uefi.code, variables: join(folder, 'variables') } } : {},
      shares: {
        usr: { path: '/usr', readOnly: true }, project: { path: join(folder, 'project'), readOnly: true }, modules: { path: join(PROJECT, 'node_modules'), readOnly: true }, out: { path: out, readOnly: false },
      },
      accelerator, limitMs: LIMIT_MS[accelerator], console: `console-${number}.log`,
    });
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    say(error.message);
  }
  const ended = new Map(existsSync(join(out, 'ended')) ? readFileSync(join(out, 'ended'), 'utf8').trim().split('\n').map((line) => line.split('\t')).map(([name = '', code, ms]) => [name, { code: Number(code), ms: Number(ms) }]) : []);
  return steps.map(({ name }) => {
    const end = ended.get(name);
    if (!end) return [name, 0, CRASHED];
    const [, passed, failed, skipped] = /^(\d+) passed, (\d+) failed, (\d+) skipped\s*$/m.exec(readFileSync(join(out, `${name}.log`), 'utf8')) ?? [];
    const counts = passed === undefined ? CRASHED : { passed: Number(passed), failed: Number(failed), skipped: Number(skipped) };
    return [name, end.ms, end.code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts];
  });
}

/** On this machine, which has neither that TPM nor that data directory: verified with what was measured where the policy allows emulators, refuted where not. */
async function verified(file: string, name: string): Promise<[string, number, Counts]> {
  const started = performance.now();
  const allowed = await tenzro('/nonexistent', ['verify', file, '--policy', POLICY, '--json']);
  const strict = await tenzro('/nonexistent', ['verify', file]);
  const { checks } = allowed.code === 0 ? JSON.parse(allowed.stdout) as VerifyReport : { checks: [] };
  const holds = [allowed.code === 0, strict.code === 1, ...MEASURED.map((code) => checks.some((check) => check.code === code && check.result === 'pass'))];
  say([`── ${name}`, allowed.code === 0 ? `verified on this machine as ${checks.length} checks say` : allowed.output, ...checks.filter(({ code }) => MEASURED.includes(code)).map(({ code, result, detail }) => `  ${result}  ${code}: ${detail}`)].join('\n'));
  const passed = holds.filter(Boolean).length;
  return [name, performance.now() - started, { passed, failed: holds.length - passed, skipped: 0 }];
}

process.exitCode = (await main()) ? 0 : 1;
