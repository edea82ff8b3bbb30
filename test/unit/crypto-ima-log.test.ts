import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { findImaPrefix, parseImaLog, replayImaLog, subjectOf } from '#runtime/crypto/imaLog.ts';
import { SOME_FILES, writeImaEvent, writeImaList, type ImaTemplate } from '#test/support/measuredLogs.ts';

const TEMPLATES: readonly ImaTemplate[] = ['ima', 'ima-ng', 'ima-sig', 'ima-ngv2', 'ima-buf', 'ima-modsig', 'd-ng|n-ng'];
const sha = (bank: string, ...parts: readonly Uint8Array[]): Buffer => createHash(bank).update(Buffer.concat(parts)).digest();

function assertFault(bytes: Uint8Array, pattern: RegExp): void {
  const { fault } = parseImaLog(bytes);
  assert.ok(fault instanceof TenzroError && fault.code === 'ima.malformed', 'a fault');
  assert.match(fault.message, pattern);
}

describe('crypto: IMA measurement list', () => {
  it('takes every template of the kernel, with names and digests of the files', () => {
    for (const template of TEMPLATES) {
      const list = writeImaList(SOME_FILES, template);
      const { events, fault, soundBytes } = parseImaLog(list);
      assert.deepEqual([fault, soundBytes, events.length], [undefined, list.length, SOME_FILES.length], template);
      const algorithm = template === 'ima' ? 'sha1' : 'sha256';
      assert.deepEqual(events.map((event) => subjectOf(event)).map((subject) => [subject?.name, subject?.algorithm, toHex(subject?.digest ?? Buffer.alloc(0))]),
        SOME_FILES.map(({ path, content }) => [path, algorithm, toHex(sha(algorithm, Buffer.from(content)))]), template);
    }
  });

  it('finds the prefix that makes a value, for the list grows while it is quoted', () => {
    const { events } = parseImaLog(writeImaList(SOME_FILES));
    for (let count = 0; count <= events.length; count++) {
      assert.deepEqual(findImaPrefix(events, replayImaLog(events.slice(0, count))), { count, extension: 'sha256' });
    }
    assert.equal(findImaPrefix(events, Buffer.alloc(32, 1)), undefined);
    assert.equal(findImaPrefix(events.slice(1), replayImaLog(events)), undefined, 'an event is left out');
  });

  it('knows kernels that extend the SHA-1 digest with zeros, and holds that digest against the data', () => {
    const list = writeImaList(SOME_FILES);
    const { events } = parseImaLog(list);
    const value = events.reduce<Buffer>((pcr, { sha1 }) => sha('sha256', pcr, sha1, Buffer.alloc(12)), Buffer.alloc(32));
    assert.deepEqual(findImaPrefix(events, value), { count: events.length, extension: 'padded-sha1' });
    const renamed = Buffer.from(list.toString('latin1').replace('/usr/bin/node', '/usr/bin/evil'), 'latin1');
    assert.equal(findImaPrefix(parseImaLog(renamed).events, value), undefined);
  });

  it('replays violations as the kernel extends them', () => {
    const { events } = parseImaLog(writeImaEvent({ path: '/tmp/changing', content: 'x', violation: true }));
    assert.equal(events[0]?.violation, true);
    assert.deepEqual(replayImaLog(events), sha('sha256', Buffer.alloc(32), Buffer.alloc(32, 0xff)));
    const padded = sha('sha256', Buffer.alloc(32), Buffer.alloc(20, 0xff), Buffer.alloc(12));
    assert.deepEqual(findImaPrefix(events, padded), { count: 1, extension: 'padded-sha1' });
  });

  it('leaves events of other PCRs out of PCR 10', () => {
    const [first, second] = SOME_FILES.map((file) => writeImaEvent(file));
    const elsewhere = writeImaEvent({ path: '/elsewhere', content: '' }, 'ima-ng', 11);
    const ends = (parts: readonly (Buffer | undefined)[]): Uint8Array => replayImaLog(parseImaLog(Buffer.concat(parts.filter((part) => part !== undefined))).events);
    assert.deepEqual(ends([first, elsewhere, second]), ends([first, second]));
  });

  it('keeps what is sound of a list that was cut anywhere', () => {
    for (const template of ['ima', 'ima-ng'] as const) {
      const list = writeImaList(SOME_FILES, template);
      const steps = new Set<number>();
      for (let length = 0; length < list.length; length++) {
        const { events, soundBytes, fault } = parseImaLog(list.subarray(0, length));
        steps.add(soundBytes);
        assert.equal(fault === undefined, soundBytes === length);
        assert.equal(parseImaLog(list.subarray(0, soundBytes)).events.length, events.length);
      }
      assert.equal(steps.size, SOME_FILES.length);
    }
  });

  it('refuses lengths that lie', () => {
    const event = writeImaEvent({ path: '/bin/sh', content: 'sh' });
    const bent = (at: number, value: number): Buffer => { const copy = Buffer.from(event); copy.writeUInt32LE(value, at); return copy; };
    const dataAt = 4 + 20 + 4 + 'ima-ng'.length;
    assertFault(bent(24, 0xffffffff), /4294967295 bytes announced where at most 255/);
    assertFault(bent(24, 100), /bytes wanted|announced/);
    assertFault(bent(dataAt, 0x7fffffff), /2147483647 bytes announced/);
    assertFault(bent(dataAt + 4, 0xffffffff), /4294967295 bytes announced/);
    assertFault(bent(dataAt + 4, 41), /announced|wanted/);
    const old = writeImaEvent({ path: '/bin/sh', content: 'sh' }, 'ima');
    old.writeUInt32LE(256, 4 + 20 + 4 + 3 + 20);
    assertFault(old, /256 bytes announced where at most 255/);
  });

  it('names no file of a template that it does not know', () => {
    const [event] = parseImaLog(writeImaEvent({ path: '/bin/sh', content: 'sh' })).events;
    assert.ok(event);
    for (const template of ['n-ng|d-ng', 'buf', 'ima', 'd-ng|sig|n-ng']) assert.equal(subjectOf({ ...event, template })?.name === '/bin/sh', false, template);
    for (const data of [Buffer.alloc(0), Buffer.alloc(3), Buffer.from('ffffffff', 'hex'), Buffer.from('0000000000000000', 'hex')]) assert.equal(subjectOf({ ...event, data }), undefined);
  });
});
