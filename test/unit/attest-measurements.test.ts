import assert from 'node:assert/strict';
import { Measurements, type MeasurementsOptions } from '#runtime/attest/measurements.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { KIND, type Maybe } from '#runtime/core/types.ts';
import { parseEventLog, replayEventLog } from '#runtime/crypto/eventLog.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { IMA_CHUNKS_MAX, type Support } from '#runtime/ledger/block.ts';
import { decodeEntry, encodeEntry } from '#runtime/ledger/entry.ts';
import { decodeMeasurement, type MeasurementBody } from '#runtime/ledger/measurement.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { EV, EVERY_EVENT, SOME_FILES, writeEventLog, writeImaEvent } from '#test/support/measuredLogs.ts';
import { silentLog } from '#test/support/sealHarness.ts';

const some = (value: Uint8Array): Maybe<Uint8Array> => ({ kind: 'value', value });
const BOOT_LOG = writeEventLog(EVERY_EVENT);

/** A machine, its gateway's ledger, and the gateway's runs. */
class Machine {
  readonly entries: Buffer[] = [];
  oldest = 0;
  bootLog: Maybe<Uint8Array> = some(BOOT_LOG);
  pcrs: Maybe<ReadonlyMap<number, Uint8Array>> = { kind: 'value', value: replayEventLog(parseEventLog(BOOT_LOG)) };
  ima: Buffer | undefined = Buffer.concat(SOME_FILES.map((file) => writeImaEvent(file)));
  software = { digest: sha256(Buffer.from('v1')), components: [] as [string, Uint8Array][] };
  monoMicros = 0;
  support: Support = {};

  run(change: Partial<MeasurementsOptions> = {}): Measurements {
    return new Measurements({
      readBootLog: () => Promise.resolve(this.bootLog),
      readBootPcrs: () => Promise.resolve(this.pcrs),
      readImaLog: (from) => Promise.resolve(this.ima ? some(this.ima.subarray(from)) : { kind: 'none', reason: 'no IMA' }),
      software: () => this.software,
      append: (body) => Promise.resolve(this.entries.push(encodeEntry({ kind: KIND.measurement, source: 'device/main//', wallMicros: 0, bootEpoch: 1, monoMicros: 0, body })) - 1),
      entry: (index) => this.entries[index] ?? Buffer.alloc(0), oldest: () => this.oldest, previous: this.support,
      clock: { wallMicros: () => 0, monoMicros: () => this.monoMicros }, counters: new CounterTable(), log: silentLog, ...change,
    });
  }

  /** A whole run of the gateway: what its blocks name in the end. */
  async start(change: Partial<MeasurementsOptions> = {}): Promise<Support> {
    this.support = await this.run(change).refresh();
    return this.support;
  }

  body(index: number | undefined): MeasurementBody { return decodeMeasurement(decodeEntry(this.entries[index ?? -1] ?? Buffer.alloc(0)).body); }

  /** IMA's list as the named chunks hold it. */
  list({ imaLog = [] }: Support): Buffer {
    let at = 0;
    return Buffer.concat(imaLog.map((index) => {
      const body = this.body(index);
      assert.ok(body.what === 'ima' && 'log' in body && body.offset === at, 'chunks follow one another');
      at += body.log.length;
      assert.equal(toHex(body.digest), toHex(sha256(this.ima?.subarray(0, at) ?? Buffer.alloc(0))));
      return body.log;
    }));
  }
}

describe('attest: measurements', () => {
  it('records boot log, IMA list and software before the first block', async () => {
    const machine = new Machine();
    const support = await machine.start();
    const bootLog = machine.body(support.bootLog);
    assert.ok(bootLog.what === 'tcg' && 'log' in bootLog && toHex(bootLog.log) === toHex(BOOT_LOG) && toHex(bootLog.digest) === toHex(sha256(BOOT_LOG)));
    assert.deepEqual(machine.list(support), machine.ima);
    const software = machine.body(support.software);
    assert.ok(software.what === 'software' && toHex(software.digest) === toHex(machine.software.digest));
    assert.equal(machine.entries.length, 3);
  });

  it('names again what is recorded, and records what changed', async () => {
    const machine = new Machine();
    const first = await machine.start();
    assert.deepEqual([await machine.start(), machine.entries.length], [first, 3], 'a restart');
    machine.software.components.push(['configuration', sha256(Buffer.from('other'))]);
    const second = await machine.start();
    assert.deepEqual([second, machine.entries.length], [{ ...first, software: 3 }, 4], 'another configuration');
    machine.bootLog = some(writeEventLog(EVERY_EVENT, ['sha256']));
    assert.deepEqual([await machine.start(), machine.entries.length], [{ ...second, bootLog: 4 }, 5], 'another boot');
  });

  it('records anew what retention has removed, in the same run and in the next', async () => {
    const machine = new Machine();
    const running = machine.run();
    await running.refresh();
    machine.oldest = 3;
    assert.deepEqual(await running.refresh(), { bootLog: 3, imaLog: [4], software: 5 });
    machine.support = running.support;
    machine.oldest = 5;
    assert.deepEqual(await machine.start(), { bootLog: 6, imaLog: [7], software: 5 });
  });

  it('records the growth of IMA\'s list, and only that', async () => {
    const machine = new Machine();
    const running = machine.run();
    await running.refresh();
    const grow = (): void => { machine.ima = Buffer.concat([machine.ima ?? Buffer.alloc(0), writeImaEvent({ path: `/bin/${machine.entries.length}`, content: 'x' })]); };
    grow();
    machine.support = await running.refresh();
    assert.deepEqual([machine.support.imaLog, machine.list(machine.support)], [[1, 3], machine.ima]);
    grow();
    assert.deepEqual([(await machine.start()).imaLog, machine.list(machine.support)], [[1, 3, 4], machine.ima], 'a restart in the same boot');
    machine.ima = writeImaEvent({ path: 'boot_aggregate', content: 'another boot' });
    assert.deepEqual([(await machine.start()).imaLog, machine.list(machine.support)], [[5], machine.ima]);
  });

  it('spares the card where the list never rests, and catches up', async () => {
    const machine = new Machine();
    const running = machine.run();
    const grow = async (): Promise<Support> => {
      machine.ima = Buffer.concat([machine.ima ?? Buffer.alloc(0), writeImaEvent({ path: '/bin/true', content: 'x' })]);
      return running.refresh();
    };
    for (let i = 0; i < 100; i++) await grow();
    assert.equal(running.support.imaLog?.length, LIMITS.imaBurstMax);
    machine.monoMicros += LIMITS.imaIntervalMs * 1_000;
    assert.deepEqual(machine.list(await grow()), machine.ima);
    for (let i = 0; i < 100; i++) {
      machine.monoMicros += LIMITS.imaIntervalMs * 1_000;
      const support = await grow();
      assert.ok((support.imaLog?.length ?? 0) <= IMA_CHUNKS_MAX);
      assert.deepEqual(machine.list(support), machine.ima);
    }
  });

  it('splits a long list into chunks that fit an entry', async () => {
    const machine = new Machine();
    machine.ima = Buffer.concat(Array.from({ length: 10_000 }, (_, n) => writeImaEvent({ path: `/usr/lib/${n}`, content: String(n) })));
    const support = await machine.start();
    assert.equal(support.imaLog?.length, Math.ceil(machine.ima.length / LIMITS.imaChunkBytesMax));
    assert.deepEqual(machine.list(support), machine.ima);
    assert.ok(machine.entries.every(({ length }) => length < LIMITS.entryBytesMax));
  });

  it('records why there is no log, once', async () => {
    const machine = new Machine();
    machine.bootLog = { kind: 'none', reason: 'a Raspberry Pi' };
    machine.ima = undefined;
    const support = await machine.start();
    assert.deepEqual(machine.body(support.bootLog), { what: 'tcg', reason: 'a Raspberry Pi' });
    assert.deepEqual(machine.body(support.imaLog?.[0]), { what: 'ima', reason: 'no IMA' });
    assert.deepEqual([await machine.start(), machine.entries.length], [support, 3]);
    assert.deepEqual(machine.body((await machine.start({ readBootLog: () => Promise.reject(new TenzroError('core.system', 'it broke')) })).bootLog), { what: 'tcg', reason: 'it broke' });
  });

  it('records what is wrong with the log of a firmware that contradicts itself, and not that log', async () => {
    const machine = new Machine();
    machine.bootLog = some(writeEventLog(EVERY_EVENT.filter(({ type }) => type !== EV.application)));
    assert.match(JSON.stringify(machine.body((await machine.start()).bootLog)), /"tcg","reason":"the firmware's boot event log does not replay to what it measured: PCR 4 differ/);
    machine.bootLog = some(BOOT_LOG.subarray(0, -1));
    assert.match(JSON.stringify(machine.body((await machine.start()).bootLog)), /does not parse: event/);
    machine.pcrs = { kind: 'none', reason: 'no TPM' };
    assert.ok('log' in machine.body((await machine.start()).bootLog), 'without a TPM there is nothing to hold it against');
  });

  it('begins anew where what an earlier run named is something else', async () => {
    const machine = new Machine();
    machine.entries.push(encodeEntry({ kind: KIND.gap, source: 'device/main//', wallMicros: 0, bootEpoch: 1, monoMicros: 0, body: new Map() }), Buffer.from('no entry'));
    machine.support = { bootLog: 0, imaLog: [1, 0], software: 7 };
    assert.deepEqual(await machine.start(), { bootLog: 2, imaLog: [3], software: 4 });
  });
});
