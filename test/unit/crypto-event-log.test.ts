import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { parseEventLog, replayEventLog } from '#runtime/crypto/eventLog.ts';
import { EV, EVERY_EVENT, startupLocality, writeEventLog, writeOldEventLog, type WrittenEvent } from '#test/support/measuredLogs.ts';

const hashed = (bank: string, ...parts: readonly Uint8Array[]): Buffer => createHash(bank).update(Buffer.concat(parts)).digest();
const separator: WrittenEvent = { pcr: 0, type: EV.separator, data: Buffer.alloc(4) };

function assertFault(bytes: Uint8Array, pattern: RegExp): void {
  const { fault } = parseEventLog(bytes);
  assert.ok(fault instanceof TenzroError && fault.code === 'eventlog.malformed', 'a fault');
  assert.match(fault.message, pattern);
}

describe('crypto: TCG boot event log', () => {
  const whole = writeEventLog(EVERY_EVENT, ['sha1', 'sha256', 'sha384']);

  it('takes every class of event, in SHA-256 where that is there', () => {
    const log = parseEventLog(whole);
    assert.equal(log.fault, undefined);
    assert.deepEqual([log.format, log.bank, log.soundBytes], ['crypto-agile', 'sha256', whole.length]);
    assert.deepEqual(log.events.slice(1).map(({ pcr, type }) => [pcr, type]), EVERY_EVENT.map(({ pcr, type }) => [pcr, type]));
    assert.ok(log.events.every(({ name }) => name.startsWith('EV_')), 'all have names');
    assert.ok(log.events.every(({ dataFits }) => dataFits !== false), 'no data contradicts its digest');
    assert.deepEqual(log.events.slice(1).map(({ data }) => toHex(data)), EVERY_EVENT.map(({ data }) => toHex(Buffer.from(data))));
  });

  it('replays extensions as the TPM makes them', () => {
    const twice = replayEventLog(parseEventLog(writeEventLog([separator, separator])));
    const once = hashed('sha256', Buffer.alloc(32), hashed('sha256', separator.data));
    assert.deepEqual(twice, new Map([[0, hashed('sha256', once, hashed('sha256', separator.data))]]));
    // EV_SEPARATOR with zeros, the best-known PCR value there is: PCR 2 and 3 of a machine without option ROMs.
    const known = replayEventLog(parseEventLog(writeEventLog([{ ...separator, pcr: 2 }]))).get(2);
    assert.equal(toHex(known ?? Buffer.alloc(0)), '3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969');
  });

  it('starts PCR 0 at the locality that the log states, and extends no EV_NO_ACTION', () => {
    const start = Buffer.alloc(32);
    start[31] = 3;
    const expected = hashed('sha256', start, hashed('sha256', separator.data));
    assert.deepEqual(replayEventLog(parseEventLog(writeEventLog([startupLocality(3), separator]))).get(0), expected);
    assert.deepEqual(replayEventLog(parseEventLog(writeEventLog([separator, startupLocality(3)]))), replayEventLog(parseEventLog(writeEventLog([separator]))), 'too late');
    assert.equal(replayEventLog(parseEventLog(writeEventLog([startupLocality(3)]))).size, 0);
  });

  it('starts PCR 0 at locality 4 under a hardware root of trust', () => {
    const start = Buffer.alloc(32);
    start[31] = 4;
    const hcrtm: WrittenEvent = { pcr: 0, type: EV.hcrtm, data: Buffer.from('HCRTM') };
    assert.deepEqual(replayEventLog(parseEventLog(writeEventLog([hcrtm]))).get(0), hashed('sha256', start, hashed('sha256', hcrtm.data)));
  });

  it('recognises the old format and replays it in SHA-1', () => {
    const bytes = writeOldEventLog(EVERY_EVENT.slice(1));
    const log = parseEventLog(bytes);
    assert.deepEqual([log.format, log.bank, log.events.length, log.fault], ['sha1', 'sha1', EVERY_EVENT.length - 1, undefined]);
    assert.deepEqual(replayEventLog(parseEventLog(writeOldEventLog([separator]))).get(0), hashed('sha1', Buffer.alloc(20), hashed('sha1', separator.data)));
  });

  it('knows a log without a bank of ours, and replays nothing', () => {
    const log = parseEventLog(writeEventLog(EVERY_EVENT, ['sha384']));
    assert.deepEqual([log.bank, log.fault, log.events.length], [undefined, undefined, EVERY_EVENT.length + 1]);
    assert.equal(replayEventLog(log).size, 0);
  });

  it('says where data are not what was measured', () => {
    const log = parseEventLog(writeEventLog([separator, { ...separator, measured: Buffer.from('something else') }]));
    assert.deepEqual(log.events.map(({ dataFits }) => dataFits), [undefined, true, false]);
  });

  it('ends at what firmware fills its log area with', () => {
    for (const fill of [0, 0xff]) {
      const log = parseEventLog(Buffer.concat([whole, Buffer.alloc(10_000, fill)]));
      assert.deepEqual([log.fault, log.events.length], [undefined, EVERY_EVENT.length + 1]);
    }
  });

  it('keeps what is sound of a log that was cut anywhere, and says how far', () => {
    const ends = new Set<number>();
    for (let length = 0; length < whole.length; length++) {
      const log = parseEventLog(whole.subarray(0, length));
      assert.ok(log.soundBytes <= length);
      const again = parseEventLog(whole.subarray(0, log.soundBytes));
      if (log.events.length > 0) assert.deepEqual([again.fault, again.events.length], [undefined, log.events.length]);
      ends.add(log.soundBytes);
    }
    assert.equal(ends.size, EVERY_EVENT.length + 1, 'each event is one step');
  });

  it('refuses lengths and counts that lie', () => {
    const log = writeEventLog([separator]);
    const bent = (at: number, value: number): Buffer => { const copy = Buffer.from(log); copy.writeUInt32LE(value, at); return copy; };
    const [algorithmsAt, eventAt] = [32 + 24, log.length - (12 + 22 + 34 + 8)];
    assertFault(Buffer.alloc(0), /empty/);
    assertFault(bent(28, 0xffffffff), /4294967295 bytes wanted/);
    assertFault(bent(algorithmsAt, 0), /0 algorithms/);
    assertFault(bent(algorithmsAt, 0xffffffff), /4294967295 algorithms/);
    assertFault(bent(algorithmsAt, 1), /vendor information/);
    assertFault(bent(eventAt + 8, 0xffffffff), /4294967295 digests, and 2 algorithms/);
    assertFault(bent(eventAt, 24), /PCR 24/);
    assertFault(bent(log.length - 8, 5), /5 bytes wanted, 4 left/);
    const wrongSize = Buffer.from(log);
    wrongSize.writeUInt16LE(20, algorithmsAt + 4 + 4 + 2); // SHA-256
    assertFault(wrongSize, /gives algorithm 0xb 20 bytes/);
    const twice = Buffer.from(log);
    twice.writeUInt16LE(4, eventAt + 12 + 22); // the second digest is SHA-1, too
    assertFault(twice, /two digests of algorithm 0x4/);
  });

  it('takes no longer for a log of empty events', () => {
    const empty = Buffer.concat([Buffer.alloc(512 * 1024), Buffer.from([1])]);
    const from = performance.now();
    parseEventLog(empty);
    assert.ok(performance.now() - from < 1_000);
  });
});
