/** `tenzro doctor`: what was found on this machine, and what each absence means for trust or function. Exit 1 when there is something to mend. */
import { systemClock } from '#runtime/core/clock.ts';
import { messageOf, TenzroError } from '#runtime/core/errors.ts';
import type { Slots } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { printable } from '#runtime/core/printable.ts';
import { listPackages, loadPackage } from '#models/package.ts';
import { openSession } from '#models/session.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { chooseTpm } from '#drivers/tpm2/source.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { slotsHere } from '#runtime/updating.ts';
import { judgeSlots, probeBoard } from './doctorBoard.ts';
import { probeHat } from './doctorHat.ts';
import { probeMachine, probeMeasuredBoot, type Finding } from './probes.ts';
import { EXIT, configOf, type CommonFlags, type Io, type Style } from './io.ts';

const STYLE_OF: Readonly<Record<Finding['state'], Style>> = { ok: 'green', absent: 'yellow', problem: 'red' };
const MARK: Readonly<Record<Finding['state'], string>> = { ok: '✓', absent: '–', problem: '✗' };

export async function doctor(io: Io, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  const machine = { root: '/', path: process.env['PATH'] ?? '', dataDir: settings.dataDir };
  const findings = [...probeMachine(machine), ...probeHat(machine), ...probeBoard(machine, systemClock.wallMicros() / 1_000), ...(await probeSlots(settings.dataDir)), ...(await probeMeasuredBoot(machine.root)), ...(await probeOwnership(settings)), ...(await probeModels(settings.infer))];
  io.exitCode = findings.some(({ state }) => state === 'problem') ? EXIT.problem : EXIT.ok;
  if (flags.json) {
    io.json({ ok: io.exitCode === EXIT.ok, findings });
    return;
  }
  const width = Math.max(...findings.map(({ area }) => area.length));
  for (const { area, state, detail, means } of findings) {
    io.line(`${io.paint(MARK[state], STYLE_OF[state])} ${area.padEnd(width)}  ${printable(detail)}`);
    if (means !== '') io.line(io.paint(`${' '.repeat(width + 4)}${means}`, 'dim'));
  }
}

const PROBE_TIMEOUT_MS = 10_000;

/** Nothing where nothing can be replaced: most machines are updated as they were installed. */
async function probeSlots(dataDir: string): Promise<Finding[]> {
  const here = await slotsHere(dataDir, () => undefined); // nothing is installed here, so nothing ends
  return Promise.all(Object.values(here).flatMap((slots) => (slots.kind === 'value' ? [probeSlot(slots.value)] : [])));
}

async function probeSlot(slots: Slots): Promise<Finding> {
  try {
    return judgeSlots(slots.holds, await slots.status(AbortSignal.timeout(PROBE_TIMEOUT_MS)));
  } catch (error) {
    if (!(error instanceof TenzroError)) throw error;
    return { area: `slots.${slots.holds}`, state: 'problem', detail: messageOf(error), means: error.hint };
  }
}

/** Only the kernel's TPM, which others can use meanwhile: an emulator is the running gateway's alone, and owned by it. */
async function probeOwnership({ attest, dataDir }: Settings): Promise<Finding[]> {
  const source = chooseTpm(attest.tpm, dataDir);
  if (source.kind !== 'device') return [];
  const area = 'tpm.owner';
  try {
    await using tpm = new Tpm(source.transport);
    const owned = await openVault(tpm).ownership(AbortSignal.timeout(PROBE_TIMEOUT_MS));
    const open = Object.entries(owned).filter(([, isSet]) => !isSet).map(([hierarchy]) => hierarchy);
    if (open.length === 0) return [{ area, state: 'ok', detail: 'owner, endorsement and lockout have authorisations (whose, a TPM does not tell)', means: '' }];
    return [{ area, state: 'absent', detail: `no authorisation: ${open.join(', ')}`, means: 'Who may use the TPM may also take it over or clear it. tenzro identity own sets what is missing, where nobody else uses this TPM.' }];
  } catch (error) {
    if (!(error instanceof TenzroError)) throw error;
    return [{ area, state: 'problem', detail: messageOf(error), means: error.hint }];
  }
}

/** Asks for what really happens: every package is opened as the gateway would open it. */
async function probeModels({ enabled, modelsDir, models, runtimeDir }: Settings['infer']): Promise<Finding[]> {
  if (!enabled) return [{ area: 'models', state: 'absent', detail: 'infer.enabled is false', means: 'Readings are recorded, not judged.' }];
  const names = models.length > 0 ? models : await listPackages(modelsDir);
  if (names.length === 0) return [{ area: 'models', state: 'absent', detail: `none in ${modelsDir}`, means: 'Readings are recorded, not judged.' }];
  return Promise.all(names.map((name) => probeModel(modelsDir, name, runtimeDir)));
}

async function probeModel(modelsDir: string, name: string, runtimeDir: string): Promise<Finding> {
  const area = `model ${name}`;
  try {
    await using session = await openSession(await loadPackage(modelsDir, name), runtimeDir);
    if (session.refused !== '') return { area, state: 'problem', detail: `runs on ${session.provider}; ${session.refused}`, means: 'An accelerator is installed but does not run the model: see the reason.' };
    const isCpu = session.provider === 'cpu';
    return { area, state: 'ok', detail: `runs on ${session.provider}${isCpu ? '; no accelerator of ONNX Runtime was found, which small models do not need' : ''}`, means: '' };
  } catch (error) {
    if (!(error instanceof TenzroError)) throw error;
    return { area, state: 'problem', detail: messageOf(error), means: error.hint };
  }
}
