/** The TPM driver beside ESYS, tpm2-tools' own library, on one swtpm, in turn; and what the driver costs beside the TPM's own time. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { HANDLE, QUOTED_PCRS } from '#drivers/tpm2/constants.ts';
import { akP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport, type Transport } from '#drivers/tpm2/transport.ts';
import { compile } from '#test/support/native.ts';
import { findPeer } from '#test/support/peers.ts';
import { startTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';
import { alone, median, paired, type Bench, type Figure } from '../figure.ts';

const SIGNAL = new AbortController().signal;
const ESYS_HEADER = '/usr/include/tss2/tss2_esys.h';
const OPERATIONS = ['getRandom', 'pcrRead', 'pcrExtend', 'quote'] as const;
type Operation = (typeof OPERATIONS)[number];

interface Latency {
  readonly p50: number;
  readonly p99: number;
}
type Latencies = Readonly<Record<Operation, Latency>>;

export const tpm: Bench = {
  name: 'tpm',
  async run({ isQuick, say }): Promise<Figure[]> {
    const swtpm = findPeer('swtpm');
    if (swtpm === undefined || !existsSync(ESYS_HEADER)) {
      say('tpm left out: swtpm or ESYS is missing (apt-get install swtpm libtss2-dev)');
      return [];
    }
    using folder = tempDir('esys');
    const esys = compile('test/bench/esys.c', join(folder.path, 'esys'), ['-ltss2-esys', '-ltss2-tctildr']);
    await using emulator = await startTpm(swtpm, { tools: true });
    const count = isQuick ? 300 : 2_000;
    const rounds: { ours: Latencies; theirs: Latencies; outside: number }[] = [];
    for (let round = 0; round < (isQuick ? 3 : 5); round++) {
      say(`our driver and ESYS in turn, round ${round + 1}`);
      const { stdout } = await promisify(execFile)(esys, [emulator.tcti, String(count)]);
      rounds.push({ theirs: parseEsys(stdout), ...(await measureOurs(emulator.address, count)) });
    }
    return [...OPERATIONS.flatMap((operation) => (['p50', 'p99'] as const).map((part) => paired(`tpm_${operation}_${part}`, 'µs', rounds.map(({ ours }) => ours[operation][part]),
      'ESYS', rounds.map(({ theirs }) => theirs[operation][part]), part === 'p50' ? '' : 'swtpm over a TCP socket; ESYS waits in a blocking read, we on the event loop'))),
      alone('tpm_driver_overhead_p50', 'µs', median(rounds.map(({ outside }) => outside)), 'time of a quote outside the transport: encoding, queue, decoding, promises')];
  },
};

function parseEsys(text: string): Latencies {
  const lines = text.trim().split('\n').map((line) => line.split(' '));
  return Object.fromEntries(lines.map(([name = '', p50, p99]) => [name, { p50: Number(p50), p99: Number(p99) }])) as Latencies;
}

async function measureOurs(address: string, count: number): Promise<{ ours: Latencies; outside: number }> {
  const timed = new TimedTransport(socketTransport(address));
  await using driver = new Tpm(timed);
  await driver.flushLeftovers(SIGNAL);
  await using ak = await driver.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
  const extra = Buffer.alloc(32);
  const outside: number[] = [];
  const run: Readonly<Record<Operation, () => Promise<unknown>>> = {
    getRandom: () => driver.info.getRandom(32, SIGNAL),
    pcrRead: () => driver.pcr.read([0, 1, 2, 3, 4, 5, 6, 7], SIGNAL),
    pcrExtend: () => driver.pcr.extend(14, extra, SIGNAL),
    quote: () => driver.attest.quote(ak, extra, QUOTED_PCRS, SIGNAL),
  };
  const latencies: Partial<Record<Operation, Latency>> = {};
  for (const operation of OPERATIONS) {
    const micros: number[] = [];
    for (let i = 0; i < count; i++) {
      const from = performance.now();
      await run[operation]();
      micros.push((performance.now() - from) * 1_000);
      if (operation === 'quote') outside.push((micros.at(-1) ?? 0) - timed.lastMicros);
    }
    const sorted = micros.toSorted((a, b) => a - b);
    latencies[operation] = { p50: median(micros), p99: sorted[Math.floor(count * 0.99)] ?? Number.NaN };
  }
  return { ours: latencies as Latencies, outside: median(outside) };
}

class TimedTransport implements Transport {
  readonly #inner: Transport;
  lastMicros = 0;

  constructor(inner: Transport) { this.#inner = inner; }

  async transact(command: Buffer, signal: AbortSignal): Promise<Buffer> {
    const from = performance.now();
    const response = await this.#inner.transact(command, signal);
    this.lastMicros = (performance.now() - from) * 1_000;
    return response;
  }

  [Symbol.asyncDispose](): PromiseLike<void> { return this.#inner[Symbol.asyncDispose](); }
}
