/** `npm run test:pm2`: pm2 keeps the gateway of this checkout running, with the file that the package brings. npm fetches pm2 once, into a cache: it is no dependency of ours. */
import assert from 'node:assert/strict';
import { access, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { readStatus } from '#runtime/observe/control.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { OwnedGateway, Requester } from '#test/support/commandGateway.ts';
import { run, type Ran } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const PM2_VERSION = '7.0.4';
const ROOT = join(import.meta.dirname, '..', '..');
const START_MS = 60_000;
/** A key that nobody knows. */
const CONFIG_FAULT = 'mqtt: { prot: 1 }\n';

async function pm2Program(): Promise<string> {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tenzro-edge-build', `pm2-${PM2_VERSION}`);
  const program = join(folder, 'node_modules/pm2/bin/pm2');
  if (await access(program).then(() => true, () => false)) return program;
  await mkdir(folder, { recursive: true });
  const { code, output } = await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', folder, `pm2@${PM2_VERSION}`], { cwd: folder });
  assert.equal(code, 0, output);
  return program;
}

interface Listed { readonly pid: number; readonly pm2_env: { readonly status: string; readonly restart_time: number; readonly exit_code?: number } }

using dir = tempDir('pm2');
const owned = new OwnedGateway(dir.path);
await owned.prepare();
const env = { ...process.env, PM2_HOME: owned.path('pm2'), PM2_DISABLE_VERSION_CHECK: 'true', PATH: `${owned.path('bin')}:${process.env['PATH'] ?? ''}`, TENZRO_DATA: owned.dataDir, TENZRO_MQTT_PORT: '0' };
await mkdir(owned.path('bin'));
await symlink(join(ROOT, 'runtime/cli/tenzro.js'), owned.path('bin/tenzro'));
const program = await pm2Program();
const pm2 = async (...args: readonly string[]): Promise<Ran> => run(process.execPath, [program, ...args], { env, cwd: dir.path });
const listed = async (): Promise<Listed> => {
  const { stdout } = await pm2('jlist');
  const [first] = JSON.parse(stdout.slice(stdout.indexOf('[{'))) as Listed[];
  assert.ok(first);
  return first;
};
const ready = async (what: string, holds: (status: GatewayStatus) => boolean): Promise<GatewayStatus> => until(what, async () => {
  const status = await readStatus(owned.dataDir);
  return status.kind === 'value' && status.value.ready && holds(status.value) ? status.value : undefined;
}, { timeoutMs: START_MS });
const say = (line: string): void => { process.stdout.write(`${line}\n`); };

try {
  const started = await pm2('start', join(ROOT, 'image/pm2/ecosystem.config.cjs'));
  assert.equal(started.code, 0, started.output);
  const first = await ready('the gateway', () => true);
  say(`started: process ${first.pid}`);

  const killed = performance.now();
  process.kill(first.pid, 'SIGKILL');
  const second = await ready('another one after kill -9', ({ pid }) => pid !== first.pid);
  assert.equal(second.chain.id, first.chain.id);
  say(`kill -9: process ${second.pid} is ready after ${((performance.now() - killed) / 1_000).toFixed(1)} s, same chain`);

  const url = second.broker.listeners[0]?.url;
  assert.ok(url);
  const requester = Requester.at(Number(new URL(url).port));
  await requester.publish('restart', 'r1', owned.sign('restart', 'r1'));
  const third = await ready('another one after exit 75', ({ pid }) => pid !== second.pid);
  const { pm2_env: after75 } = await listed();
  assert.equal(after75.exit_code, 75);
  say(`exit 75 after the command restart: process ${third.pid}, exit code ${after75.exit_code}, ${after75.restart_time} restarts`);

  const whole = await readFile(owned.configFile, 'utf8');
  await writeFile(owned.configFile, CONFIG_FAULT);
  process.kill(third.pid, 'SIGTERM');
  await until('several tries with a broken configuration', async () => (await listed()).pm2_env.restart_time >= after75.restart_time + 4, { timeoutMs: START_MS, intervalMs: 500 });
  await writeFile(owned.configFile, whole);
  const last = await ready('the gateway, once the configuration is mended', ({ pid }) => pid !== third.pid);
  say(`broken configuration: tried again until it was mended; process ${last.pid}`);

  const stopped = await pm2('stop', 'tenzro-edge');
  assert.equal(stopped.code, 0, stopped.output);
  const { pm2_env: end } = await listed();
  assert.equal(end.status, 'stopped');
  assert.equal(end.exit_code, 0);
  say('stopped in an orderly way: exit code 0');
} finally {
  await pm2('kill');
}
