import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

interface VerifyReport { readonly outcome: string; readonly checks: readonly { readonly code: string; readonly result: string }[] }
interface LogLine { readonly index: number; readonly kind: string; readonly source: string; readonly time: string; readonly body: unknown }

const FIRST_PROOF_MS = 60_000;

/** From the simulated microcontrollers' first message to a stranger who verifies the proof, with nothing but what the screen says. */
describe('the main job', function () {
  this.timeout(FIRST_PROOF_MS + 30_000);
  let dir: TempDir;
  let gateway: Gateway;
  let hints: readonly string[];
  const dataDir = (): string => join(dir.path, 'data');

  before(async function () {
    dir = tempDir('main-job');
    const configFile = join(dir.path, 'tenzro.yaml');
    writeFileSync(configFile, 'attest:\n  intervalMs: 1000\n');
    gateway = await Gateway.start({ dataDir: dataDir(), configFile, args: ['--scenario', 'workshop'], cwd: dir.path, env: { npm_lifecycle_event: 'start' } });
    hints = await until('the hint on the screen', () => {
      const lines = gateway.output.split('\n').filter((line) => /tenzro(?:\.js)? (?:proof|verify) /.test(line));
      return lines.length >= 2 && lines.map((line) => line.trim());
    }, { timeoutMs: FIRST_PROOF_MS, intervalMs: 100 });
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const shell = (command: string, cwd: string): ReturnType<typeof run> => run('bash', ['-c', command], { cwd });

  it('says what it is, and that the microcontrollers are simulated', async () => {
    const status = await gateway.until('attested entries', ({ chain }) => chain.attestedEntries > 0);
    assert.match(status.chain.id ?? '', /^[0-9a-f]{64}$/);
    assert.ok(status.models.length > 0 && status.models.every(({ provider }) => provider !== ''));
    assert.ok(status.broker.clients >= 3, `${status.broker.clients} clients`);
    assert.match(gateway.output, /simulated/);
    const shown = await tenzro(dataDir(), ['status', '--json']);
    assert.equal(shown.code, 0, shown.output);
    assert.deepEqual(Object.keys(JSON.parse(shown.stdout) as object).filter((key) => ['ready', 'node', 'chain', 'trust', 'broker', 'models', 'counters'].includes(key)).length, 7);
  });

  it('lists readings, inferences and boots as one JSON object a line', async () => {
    const { stdout, code } = await tenzro(dataDir(), ['log', '--json', '--limit', '100000']);
    assert.equal(code, 0);
    const lines = stdout.trim().split('\n').map((line) => JSON.parse(line) as LogLine);
    for (const { index, kind, source, time, body } of lines) assert.ok(Number.isInteger(index) && kind && source && time && body !== undefined);
    const kinds = new Set(lines.map(({ kind }) => kind));
    for (const kind of ['boot', 'reading', 'inference']) assert.ok(kinds.has(kind), `no ${kind} in ${[...kinds].join(', ')}`);
    assert.ok(lines.some(({ kind, body }) => kind === 'reading' && JSON.stringify(body).includes('simulated')), 'readings say that they are simulated');
  });

  it('proves an inference with the commands that the screen prints', async () => {
    const [proof = '', verify = ''] = hints;
    const exported = await shell(proof, dir.path);
    assert.equal(exported.code, 0, exported.output);
    const verified = await shell(verify, dir.path);
    assert.equal(verified.code, 0, verified.output);
  });

  it('verifies in an empty directory without a network; without a policy refuses the emulator; refutes an altered file', async function () {
    const unshare = requirePeer(this, 'unshare');
    if ((await run(unshare, ['-n', 'true'])).code !== 0) skipBecause(this, 'unshare -n is not permitted here');
    using empty = tempDir('stranger');
    const file = join(empty.path, 'reading.tzp');
    copyFileSync(join(dir.path, 'reading.tzp'), file);
    const [, verify = ''] = hints;
    const cut = (command: string): ReturnType<typeof run> => run(unshare, ['-n', 'env', '-u', 'TENZRO_DATA', 'bash', '-c', `cd ${empty.path} && ${command} --json`]);

    const allowed = await cut(verify);
    assert.equal(allowed.code, 0, allowed.output);
    const report = JSON.parse(allowed.stdout) as VerifyReport;
    assert.ok(report.checks.every(({ code, result }) => code !== '' && result !== 'fail'));

    const strict = await cut(verify.replace(/ --policy \S+/, ''));
    assert.equal(strict.code, 1, strict.output);

    const altered = readFileSync(file);
    altered.writeUInt8(altered.readUInt8(altered.length >> 1) ^ 1, altered.length >> 1);
    writeFileSync(file, altered);
    assert.equal((await cut(verify)).code, 1);
  });

  it('seals a last block at SIGTERM, says so, and leaves a chain that fsck accepts', async () => {
    assert.equal(await gateway.stop(), 0, gateway.output);
    assert.match(gateway.output, /last block/i);
    const checked = await tenzro(dataDir(), ['fsck', '--json']);
    assert.equal(checked.code, 0, checked.output);
    const { chain } = JSON.parse((await tenzro(dataDir(), ['status', '--json'])).stdout) as { chain: { entries: number; attestedEntries: number } };
    assert.ok(chain.entries > 0);
    assert.equal(chain.attestedEntries, chain.entries, 'the last block covers every entry');
  });
});
