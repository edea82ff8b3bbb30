/** What systemd hears of a gateway, by systemd's own program and a socket that stands in for systemd's. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ServiceManager } from '#drivers/system/serviceManager.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { Ping } from '#runtime/core/ping.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { Supervision, type Watched } from '#runtime/supervision.ts';
import { Gateway } from '#test/support/gateway.ts';
import { QUIET } from '#test/support/lightGateway.ts';
import { NotifySocket } from '#test/support/notifySocket.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const ALIVE = 'WATCHDOG=1';
const WATCHDOG_MS = 300;
/** Answers until its cell says that it hangs, then never again. */
const THREAD = `
const { parentPort, workerData } = require('node:worker_threads');
parentPort.on('message', () => { Atomics.wait(workerData, 0, 1); parentPort.postMessage('pong'); });
`;

/** A thread that hangs while its cell is 1. */
class Thread implements Watched, AsyncDisposable {
  readonly silentMs: number;
  readonly #cell = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker = new Worker(THREAD, { eval: true, workerData: this.#cell });
  readonly #ping = new Ping();

  constructor(silentMs: number) {
    this.silentMs = silentMs;
    this.#worker.on('message', () => { this.#ping.answered(); });
  }

  async answered(): Promise<void> { return this.#ping.ask(() => { this.#worker.postMessage('ping', []); }); }

  hang(): void { Atomics.store(this.#cell, 0, 1); }

  goOn(): void {
    Atomics.store(this.#cell, 0, 0);
    Atomics.notify(this.#cell, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#worker.terminate(); }
}

describe('supervision by systemd', function () {
  this.timeout(40_000);
  let dir: TempDir;
  let socket: NotifySocket;
  const envOf = (): NodeJS.ProcessEnv => ({ NOTIFY_SOCKET: socket.path, WATCHDOG_USEC: String(WATCHDOG_MS * 1_000) });
  const begin = (): Supervision => new Supervision({ env: envOf(), clock: systemClock, log: QUIET, counters: new CounterTable() });
  const more = async (what: string, by = 2): Promise<void> => {
    const seen = socket.count(ALIVE);
    await until(what, () => socket.count(ALIVE) >= seen + by);
  };
  /** No sign came while `rounds` intervals passed by the same clock that signs would come by. */
  const isSilent = async (rounds: number): Promise<boolean> => {
    const [seen, from] = [socket.count(ALIVE), performance.now()];
    await until('time to pass', () => performance.now() - from > (rounds * WATCHDOG_MS) / 3);
    return socket.count(ALIVE) - seen <= 1; // one may have been under way
  };

  beforeEach(async function () {
    requirePeer(this, 'systemd-notify');
    dir = tempDir('watchdog');
    socket = await NotifySocket.open(dir.path, requirePeer(this, 'python3'));
  });
  afterEach(async () => {
    await socket?.[Symbol.asyncDispose]();
    dir?.[Symbol.dispose]();
  });

  it('asks for more time while it starts, then says ready once, then that it lives, then that it stops', async () => {
    await using supervision = begin();
    await until('two requests for time', () => socket.count(`EXTEND_TIMEOUT_USEC=${WATCHDOG_MS * 1_000}`) >= 2);
    assert.equal(socket.count(ALIVE), 0);
    supervision.ready([], () => 'one\nline');
    await more('signs of life', 3);
    assert.equal(socket.count('READY=1'), 1);
    assert.equal(socket.count('STATUS=one line'), socket.count(ALIVE));
    supervision.stopping();
    await until('the stop', () => socket.count('STOPPING=1') === 1);
  });

  it('falls silent while a thread that must answer hangs, and speaks again when it goes on', async () => {
    await using thread = new Thread(0);
    await using supervision = begin();
    supervision.ready([thread], () => 'ready');
    await more('signs of life');
    thread.hang();
    assert.ok(await isSilent(6));
    thread.goOn();
    await more('signs of life after the hang');
  });

  it('lets a thread that may compute long be silent for its time, and no longer', async () => {
    await using thread = new Thread(5 * WATCHDOG_MS);
    await using supervision = begin();
    supervision.ready([thread], () => 'ready');
    await more('signs of life');
    thread.hang();
    await more('signs of life in spite of it', 4);
    await until('silence', async () => isSilent(5));
  });

  it('says that it stops also while a thread hangs', async () => {
    await using thread = new Thread(0);
    await using supervision = begin();
    supervision.ready([thread], () => 'ready');
    await more('signs of life');
    thread.hang();
    assert.ok(await isSilent(3));
    supervision.stopping();
    await until('the stop', () => socket.count('STOPPING=1') === 1);
  });

  it('is heard from the real gateway until SIGSTOP, again after SIGCONT, and at its end', async () => {
    await using gateway = await Gateway.start({ dataDir: dir.path, env: envOf() });
    await until('ready', () => socket.count('READY=1') === 1);
    await more('signs of life');
    process.kill(gateway.pid, 'SIGSTOP');
    assert.ok(await isSilent(6));
    process.kill(gateway.pid, 'SIGCONT');
    await more('signs of life after SIGCONT');
    assert.equal(await gateway.stop(), 0);
    assert.equal(socket.count('STOPPING=1'), 1);
  });

  it('counts what systemd did not hear, and goes on', async () => {
    const counters = new CounterTable();
    await using deaf = new Supervision({ env: { ...envOf(), NOTIFY_SOCKET: `${socket.path}-gone` }, clock: systemClock, log: QUIET, counters });
    deaf.stopping();
    await until('two tries', () => (counters.snapshot()['supervision.unheard'] ?? 0) >= 2);
  });

  it('says again what was not heard, without a watchdog too', async () => {
    await using late = new Supervision({ env: { NOTIFY_SOCKET: join(dir.path, 'late/notify') }, clock: systemClock, log: QUIET, counters: new CounterTable() });
    late.ready([], () => 'ready');
    const folder = join(dir.path, 'late');
    await mkdir(folder);
    await using listening = await NotifySocket.open(folder, 'python3');
    await until('ready', () => listening.count('READY=1') === 1);
    late.stopping();
    await until('the stop', () => listening.count('STOPPING=1') === 1);
  });

  it('is nothing without a socket, and has no limit that is not for this process', () => {
    assert.equal(ServiceManager.of({}), undefined);
    assert.equal(ServiceManager.of({ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' })?.watchdogMs, undefined);
    assert.equal(ServiceManager.of({ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1000', WATCHDOG_PID: String(process.pid) })?.watchdogMs, 1);
    assert.equal(ServiceManager.of({ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: 'soon' })?.watchdogMs, undefined);
  });
});
