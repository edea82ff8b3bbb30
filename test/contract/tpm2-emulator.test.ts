/** The emulator that the gateway starts for itself. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { findSwtpm, swtpmTransport } from '#drivers/tpm2/swtpm.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { requirePeer } from '#test/support/peers.ts';
import { Program } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const SIGNAL = new AbortController().signal;
const VICTIM = join(import.meta.dirname, '..', 'support', 'emulatorVictim.ts');

describe('tpm2: own emulator', () => {
  before(function () { requirePeer(this, 'swtpm'); });

  const pidIn = (stateDir: string): number => Number(readFileSync(join(stateDir, 'swtpm.pid'), 'utf8'));
  /** Ended; perhaps not reaped, where process 1 does not care for orphans. */
  const isGone = (pid: number): boolean => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/cmdline`).length === 0;

  it('keeps its keys over a restart, in a folder that only its owner reads', async () => {
    using dir = tempDir('swtpm');
    const stateDir = join(dir.path, 'a'.repeat(120), 'swtpm'); // longer than a unix socket's path may be
    const keys: string[] = [];
    let pid = 0;
    for (let start = 0; start < 2; start += 1) {
      await using tpm = new Tpm(swtpmTransport(stateDir));
      keys.push(toHex((await openAnchor(tpm, SIGNAL)).akPublic));
      pid = pidIn(stateDir);
      await tpm.shutdown(SIGNAL);
    }
    assert.equal(keys[0], keys[1]);
    assert.equal(statSync(stateDir).mode & 0o777, 0o700);
    assert.ok(isGone(pid), 'it ended when the driver was closed');
  });

  it('an orderly end leaves a safe clock, and starts count', async () => {
    using dir = tempDir('swtpm');
    const clocks = [];
    for (let start = 0; start < 2; start += 1) {
      await using tpm = new Tpm(swtpmTransport(dir.path));
      clocks.push(await tpm.info.readClock(SIGNAL));
      await tpm.shutdown(SIGNAL);
    }
    assert.equal(clocks[1]?.resetCount, (clocks[0]?.resetCount ?? 0) + 1);
    assert.ok(clocks[1]?.safe);
  });

  it('starts again, as a TPM reset, when it ended in mid-life', async () => {
    using dir = tempDir('swtpm');
    await using tpm = new Tpm(swtpmTransport(dir.path));
    const { resetCount } = await tpm.info.readClock(SIGNAL);
    const pid = pidIn(dir.path);
    process.kill(pid, 'SIGKILL');
    await until('the emulator to end', () => isGone(pid));
    const outcome = await tpm.info.readClock(SIGNAL).catch((error: { code: string }) => error.code);
    assert.ok(outcome === 'tpm.connection' || typeof outcome === 'object');
    assert.ok((await tpm.info.readClock(SIGNAL)).resetCount > resetCount);
  });

  it('ends with a gateway that was killed −9, and does not block the next start', async () => {
    using dir = tempDir('swtpm');
    let resets = -1;
    let pid = 0;
    for (let start = 0; start < 3; start += 1) {
      await using victim = new Program(process.execPath, [VICTIM, dir.path]);
      const told = await until('the emulator to answer', () => /resets=(\d+);/.exec(victim.stdout)?.[1], { hopeless: () => (victim.running ? undefined : victim.output) });
      assert.ok(Number(told) > resets);
      resets = Number(told);
      pid = pidIn(dir.path);
      await victim.end('SIGKILL');
    }
    await until('the emulator to end', () => isGone(pid));
  });

  it('is ended by the next start when it hangs', async () => {
    using dir = tempDir('swtpm');
    await using victim = new Program(process.execPath, [VICTIM, dir.path]);
    await until('the emulator to answer', () => victim.stdout.includes('resets='), { hopeless: () => (victim.running ? undefined : victim.output) });
    const pid = pidIn(dir.path);
    process.kill(pid, 'SIGSTOP');
    await victim.end('SIGKILL');
    await using tpm = new Tpm(swtpmTransport(dir.path));
    await tpm.startup(SIGNAL);
    assert.ok(isGone(pid));
  });

  it('says so when swtpm is not installed, or does not start', async () => {
    using dir = tempDir('swtpm');
    assert.equal(findSwtpm(dir.path), undefined);
    await using missing = new Tpm(swtpmTransport(dir.path, { searchPath: dir.path }));
    await assert.rejects(missing.startup(SIGNAL), { code: 'tpm.not_installed' });
    symlinkSync('/bin/false', join(dir.path, 'swtpm'));
    await assert.rejects(missing.startup(SIGNAL), { code: 'tpm.connection' });
  });
});
