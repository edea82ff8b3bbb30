/** The real `tenzro` command on a real chain, as people and scripts call it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { requirePeer } from '#test/support/peers.ts';
import { draft, makeChain, seal, startLedger } from '#test/support/ledger.ts';
import { Program, run, type Ran } from '#test/support/process.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';
import { blockStoreOf, openReader } from '#runtime/ledger/reader.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const COMMAND = join(ROOT, 'runtime', 'cli', 'tenzro.js');
const ENTRIES = 12;
/** The test ledger records a message under its topic. */
const SOURCE = 'te/device/child///e/test';

describe('cli: commands', () => {
  let dir: TempDir;
  let dataDir: string;

  const tenzro = async (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> => {
    const { TENZRO_CONFIG: _config, TENZRO_MQTT_PORT: _port, NO_COLOR: _color, ...rest } = process.env;
    return run(process.execPath, [COMMAND, ...args], { cwd: dir.path, env: { ...rest, TENZRO_DATA: dataDir, ...env } });
  };
  const json = async (args: readonly string[], code: number, env: NodeJS.ProcessEnv = {}): Promise<Record<string, unknown>> => {
    const ran = await tenzro([...args, '--json'], env);
    assert.equal(ran.code, code, ran.output);
    return JSON.parse(ran.stdout) as Record<string, unknown>;
  };

  before(async () => {
    dir = tempDir('cli');
    dataDir = join(dir.path, 'data');
    await makeChain(dataDir, { entries: ENTRIES, blocks: 2 });
  });
  after(() => { dir[Symbol.dispose](); });

  it('explains itself, with examples', async () => {
    const help = await tenzro(['--help']);
    assert.equal(help.code, 0);
    for (const command of ['run', 'status', 'log', 'proof', 'verify', 'fsck', 'doctor', 'config']) assert.match(help.stdout, new RegExp(`^  ${command}\\b`, 'm'));
    const helps = await Promise.all([['run'], ['status'], ['log'], ['proof'], ['verify'], ['fsck'], ['doctor'], ['config', 'check'], ['config', 'show'], ['config', 'hash-password'], ['confidential', 'keygen'], ['confidential', 'open'], ['ek-roots', 'fetch']].map(async (words) => tenzro([...words, '--help'])));
    for (const { code, stdout } of helps) assert.ok(code === 0 && /\nExamples:\n {2}\$ /.test(stdout), stdout);
  });

  it('exits 2 and names the nearest command for wrong usage', async () => {
    const wrong = await tenzro(['stauts']);
    assert.equal(wrong.code, 2);
    assert.match(wrong.output, /unknown command 'stauts'[^]*Did you mean status\?/);
    const calls = [['log', '--nope'], ['proof', '1'], ['proof', 'one', '-o', 'x'], ['log', '--kind', 'raeding'], ['log', '--since', 'soon'], ['verify', 'none.tzp']];
    assert.deepEqual((await Promise.all(calls.map(async (args) => tenzro(args)))).map(({ code }) => code), calls.map(() => 2));
    assert.match((await tenzro(['log', '--kind', 'raeding'])).output, /did you mean 'reading'/);
  });

  it('refuses an older Node with a sentence that says what to do', function () {
    const old = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'node'))
      .find((file) => existsSync(file) && Number(spawnSync(file, ['-p', 'process.versions.node.split(".")[0]'], { encoding: 'utf8' }).stdout) < 24);
    if (old === undefined) return skipBecause(this, 'no Node older than 24 is installed');
    const ran = spawnSync(old, [COMMAND, 'status'], { encoding: 'utf8' });
    assert.equal(ran.status, 2);
    assert.match(ran.stderr, /^tenzro: this is Node v\d+\.\S+, Tenzro Edge needs Node 24 or newer: call it as "npx tenzro …".*\(core\.node_version\)\n$/);
  });

  it('may be executed as it lies there', () => {
    assert.equal(statSync(COMMAND).mode & 0o111, 0o111);
    assert.match(readFileSync(COMMAND, 'utf8'), /^#!\/usr\/bin\/env node\n/);
  });

  it('status: without a gateway tells what the data directory holds, exit 2', async () => {
    const status = await json(['status'], 2);
    assert.equal(status['ready'], false);
    const chain = status['chain'] as Record<string, unknown>;
    assert.deepEqual([chain['blocks'], Number(chain['attestedEntries']) >= ENTRIES, Number(chain['entries']) > Number(chain['attestedEntries'])], [2, true, true]);
    assert.match(String(chain['id']), /^[0-9a-f]{64}$/);
    assert.deepEqual(Object.keys(status).toSorted(), ['board', 'broker', 'chain', 'counters', 'dataDir', 'models', 'node', 'ready', 'trust']);
    assert.match((await tenzro(['status'])).stdout, /^not running .*\n.*attested by 2 blocks/);
    const empty = await json(['status', '--data', join(dir.path, 'empty')], 2);
    assert.deepEqual(empty['chain'], { id: null, entries: 0, blocks: 0, attestedEntries: 0, lastBlockAt: null });
  });

  it('log: filters, limits, and names fields', async () => {
    const all = (await tenzro(['log', '--limit', '1000', '--json'])).stdout.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(all.map((entry) => entry['index']), all.map((_, i) => i), 'every entry once, oldest first');
    assert.deepEqual(all[0]?.['body'], { version: '0.0.0-test', lastStop: 'first', previousSize: 0 });
    for (const entry of all) for (const key of ['index', 'kind', 'source', 'time', 'body']) assert.ok(key in entry, key);
    const child = all.find((entry) => entry['source'] === SOURCE);
    assert.ok(child !== undefined && !Number.isNaN(Date.parse(String(child['time']))));
    const some = (await tenzro(['log', '--source', SOURCE, '--kind', String(child['kind']), '--limit', '3'])).stdout.trim().split('\n');
    assert.equal(some.length, 3);
    for (const line of some) assert.match(line, /^\s*\d+ {2}\d{4}-\d\d-\d\dT\S+Z {2}\w+\s+te\/device\/child\/\/\/e\/test/);
    assert.equal((await tenzro(['log', '--since', '2100-01-01'])).stdout, '');
    assert.equal((await tenzro(['log', '--since', '1h', '--json'])).stdout.trim().split('\n').length, all.length);
    assert.equal(((await json(['log', '--data', join(dir.path, 'empty')], 2))['error'] as Record<string, unknown>)['code'], 'ledger.no_chain');
  });

  it('proof and verify: a stranger checks it in an empty directory without a network', async function () {
    const unshare = requirePeer(this, 'unshare');
    const made = await json(['proof', '3..5', '-o', join(dir.path, 'some.tzp')], 0);
    assert.deepEqual([made['first'], made['last'], made['sizeBytes']], [3, 5, statSync(join(dir.path, 'some.tzp')).size]);
    const empty = join(dir.path, 'stranger');
    mkdirSync(empty);
    const verify = async (...flags: string[]): Promise<Ran> =>
      run(unshare, ['-rn', process.execPath, COMMAND, 'verify', '../some.tzp', ...flags], { cwd: empty, env: { PATH: process.env['PATH'], HOME: empty } });
    const refused = await verify();
    assert.equal(refused.code, 1);
    assert.match(refused.stdout, /trust\.policy/);
    const policy = join(ROOT, 'docs/policies/allow-software.yaml');
    const accepted = await verify('--policy', policy, '--json');
    assert.equal(accepted.code, 0, accepted.output);
    const report = JSON.parse(accepted.stdout) as { outcome: string; checks: { code: string; result: string; detail: string }[] };
    assert.equal(report.outcome, 'verified');
    assert.ok(report.checks.every(({ code, result, detail }) => code !== '' && result !== 'fail' && detail !== ''));
    const bytes = readFileSync(join(dir.path, 'some.tzp'));
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
    writeFileSync(join(dir.path, 'bad.tzp'), bytes);
    assert.equal((await tenzro(['verify', 'bad.tzp', '--policy', policy])).code, 1);
    writeFileSync(join(dir.path, 'bad.yaml'), 'version: 1\nacept: [software]\n');
    assert.match((await tenzro(['verify', 'some.tzp', '--policy', 'bad.yaml'])).output, /unknown key 'acept'.*\(policy\.invalid\)/);
  });

  it('proof: says when there is no such entry, and when no block covers it', async () => {
    const entries = Number(((await json(['status'], 2))['chain'] as Record<string, unknown>)['entries']);
    const codeOf = async (index: number): Promise<unknown> => ((await json(['proof', String(index), '-o', join(dir.path, 'x.tzp')], 2))['error'] as Record<string, unknown>)['code'];
    assert.equal(await codeOf(entries - 1), 'ledger.not_attested');
    assert.ok(['ledger.no_entry', 'ledger.not_attested'].includes(String(await codeOf(entries + 10))));
    assert.equal(existsSync(join(dir.path, 'x.tzp')), false);
  });

  it('fsck: exit 0 for a whole chain, 1 where a byte was turned, 2 where there is none', async () => {
    const whole = await json(['fsck'], 0);
    assert.deepEqual([whole['ok'], whole['problems']], [true, []]);
    assert.match((await tenzro(['fsck'])).stdout, /2 blocks checked: all of it verifies\n[^]*no block is anchored/);
    assert.equal((await tenzro(['fsck', '--data', join(dir.path, 'empty')])).code, 2);
    const altered = join(dir.path, 'altered');
    await makeChain(altered, { entries: ENTRIES, blocks: 2 });
    const file = join(altered, 'ledger', 'chain', 'data.mdb');
    const bytes = readFileSync(file);
    const at = bytes.indexOf('entry 1/3');
    assert.ok(at > 0);
    for (let i = at; i >= 0; i = bytes.indexOf('entry 1/3', i + 1)) bytes.write('entry 9/3', i);
    writeFileSync(file, bytes);
    const broken = await json(['fsck', '--data', altered], 1);
    assert.equal(broken['ok'], false);
    assert.ok((broken['problems'] as unknown[]).length > 0);
  });

  it('doctor: every finding says what it means', async () => {
    const { ok, findings } = await json(['doctor', '--data', ROOT], 0) as { ok: boolean; findings: { area: string; state: string; detail: string; means: string }[] };
    assert.equal(ok, true);
    for (const area of ['node', 'memory', 'tpm', 'i2c', 'spi', 'gpio', 'serial', '1-wire', 'iio', 'clock.rtc', 'clock.ntp', 'disk']) assert.ok(findings.some((finding) => finding.area === area), area);
    for (const { state, detail, means } of findings) assert.ok(detail !== '' && (state === 'ok') === (means === ''), JSON.stringify({ state, detail, means }));
    assert.ok(findings.some(({ area, detail }) => area.startsWith('model ') && /runs on (cpu|cuda)/.test(detail)));
  });

  it('config: check, show, hash-password', async () => {
    writeFileSync(join(dir.path, 'bad.yaml'), 'mqtt:\n  prot: 1\n');
    const bad = await tenzro(['config', 'check', '--config', 'bad.yaml']);
    assert.equal(bad.code, 1);
    assert.match(bad.stdout, /bad\.yaml:2:3: mqtt\.prot: is not a known key \(did you mean 'port'\?\)/);
    assert.deepEqual(((await json(['config', 'check', '--config', 'bad.yaml'], 1))['problems'] as Record<string, unknown>[]).map(({ line, column, key }) => [line, column, key]), [[2, 3, 'mqtt.prot']]);
    assert.equal((await tenzro(['status', '--config', 'bad.yaml'])).code, 2);
    assert.equal((await tenzro(['config', 'check', '--config', 'none.yaml'])).code, 2);
    assert.equal((await tenzro(['config', 'check'])).code, 0);
    const shown = await json(['config', 'show'], 0, { TENZRO_MQTT_PORT: '7777' });
    assert.deepEqual(shown['mqtt.port'], { value: 7777, from: 'environment TENZRO_MQTT_PORT' });
    const hashed = spawnSync(process.execPath, [COMMAND, 'config', 'hash-password'], { input: 'a secret\n', encoding: 'utf8' });
    assert.match(hashed.stdout, /^scrypt\$16384\$8\$\d+\$[^$]+\$[^$]+\n$/);
    assert.equal(spawnSync(process.execPath, [COMMAND, 'config', 'hash-password'], { input: '', encoding: 'utf8' }).status, 2);
  });

  it('follows a living chain, and waits for the block that a proof needs', async () => {
    const live = join(dir.path, 'live');
    await using ledger = await startLedger(live);
    await using reader = await openReader(live);
    const last = await ledger.append(draft('the first'));
    const env = { ...process.env, TENZRO_DATA: live };
    await using follow = new Program(process.execPath, [COMMAND, 'log', '--follow', '--json'], { env });
    await until('what is there', () => follow.stdout.includes('the first'));
    await ledger.append(draft('the second'));
    await until('what came later', () => follow.stdout.includes('the second'));
    assert.equal(await follow.end('SIGINT'), 0);
    const file = join(live, 'waited.tzp');
    await using wait = new Program(process.execPath, [COMMAND, 'proof', String(last), '-o', file, '--wait'], { env });
    await seal(blockStoreOf(ledger, reader));
    assert.equal(await wait.exited(), 0, wait.output);
    assert.equal(existsSync(file), true);
  });

  it('ends quietly when nobody reads any more', () => {
    const piped = spawnSync('bash', ['-o', 'pipefail', '-c', `"${process.execPath}" "${COMMAND}" log --limit 1000 --json | head -n 1`], { encoding: 'utf8', env: { ...process.env, TENZRO_DATA: dataDir } });
    assert.equal(piped.stdout.trim().split('\n').length, 1);
    assert.equal(piped.stderr, '');
  });
});
