/** What only a machine has: a TPM behind the kernel, firmware and kernel that measure into it, and more than one program that uses it. */
import assert from 'node:assert/strict';
import { readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readBootLog, readImaLog } from '#drivers/system/bootLogs.ts';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { COUNTER_INDEX, HANDLE } from '#drivers/tpm2/constants.ts';
import { ekEccP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { deviceTransport } from '#drivers/tpm2/transport.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { findImaPrefix, IMA_PCR, parseImaLog, subjectOf, type ImaEvent } from '#runtime/crypto/imaLog.ts';
import { parseEventLog, replayEventLog } from '#runtime/crypto/eventLog.ts';
import { run } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { NEVER } from '#test/support/sealHarness.ts';
import { DEVICE } from './machine.ts';

const LOG_BYTES_MAX = 16 * 1024 * 1024;
const FIRMWARE_PCRS = [0, 1, 2, 3, 4, 5, 6, 7];
const ROUNDS = 5;

describe('the machine', function () {
  this.timeout(120_000);
  let tpm: Tpm;
  before(() => { tpm = new Tpm(deviceTransport(DEVICE)); });
  after(async () => { await tpm[Symbol.asyncDispose](); });

  const pcr = async (index: number): Promise<Uint8Array> => (await tpm.pcr.read([index], NEVER))[0]?.[1] ?? assert.fail(`no PCR ${index}`);
  async function imaEvents(): Promise<readonly ImaEvent[]> {
    const log = await readImaLog({ maxBytes: LOG_BYTES_MAX }, 0);
    assert.ok(log.kind === 'value', JSON.stringify(log));
    const { events, fault } = parseImaLog(log.value);
    assert.equal(fault, undefined);
    return events;
  }
  async function tool(name: string, ...args: string[]): Promise<string> {
    const { code, output, stdout } = await run(name, ['-T', `device:${DEVICE}`, ...args]);
    assert.equal(code, 0, `${name}: ${output}`);
    return stdout;
  }

  it('has a TPM 2.0 that tpm_tis drives', async () => {
    assert.equal(readFileSync('/sys/class/tpm/tpm0/tpm_version_major', 'utf8').trim(), '2');
    assert.equal(basename(readlinkSync('/sys/class/tpm/tpm0/device/driver')), 'tpm_tis');
    assert.equal((await tpm.info.identity(NEVER)).manufacturer, 'IBM');
  });

  it('boots measured: the event log replays to the quoted PCRs 0–7', async () => {
    const log = await readBootLog({ maxBytes: LOG_BYTES_MAX });
    assert.ok(log.kind === 'value', JSON.stringify(log));
    const parsed = parseEventLog(log.value);
    assert.equal(parsed.fault, undefined);
    assert.ok(parsed.events.every(({ dataFits }) => dataFits !== false));
    const replayed = replayEventLog(parsed);
    const { pcrs } = await (await openAnchor(tpm, NEVER)).quote(sha256(log.value), NEVER);
    for (const index of FIRMWARE_PCRS) {
      assert.equal(toHex(new Map(pcrs).get(index) ?? Buffer.alloc(0)), toHex(replayed.get(index) ?? Buffer.alloc(0)), `PCR ${index} of ${parsed.events.length} events`);
    }
  });

  it('measures files: the list replays to the quoted PCR 10, also while it grows', async () => {
    const anchor = await openAnchor(tpm, NEVER);
    const counts: number[] = [];
    for (let round = 0; round < 2; round += 1) {
      await run(round === 0 ? '/usr/bin/od' : '/usr/bin/nl', ['--version']); // programs that did not run before
      const { pcrs } = await anchor.quote(sha256(Buffer.from('IMA')), NEVER);
      const quoted = new Map(pcrs).get(IMA_PCR) ?? assert.fail('PCR 10 is not quoted');
      assert.notEqual(toHex(quoted), '00'.repeat(32));
      const prefix = findImaPrefix(await imaEvents(), quoted);
      assert.equal(prefix?.extension, 'sha256');
      counts.push(prefix.count);
    }
    const [first = 0, second = 0] = counts;
    assert.ok(first > 0 && second > first, `${first}, then ${second} events`);
    const names = (await imaEvents()).map((event) => subjectOf(event)?.name ?? '');
    assert.equal(names[0], 'boot_aggregate');
    for (const wanted of ['/bin/node', '/od', '/nl']) assert.ok(names.some((name) => name.endsWith(wanted)), `${wanted} in ${names.length} names`);
  });

  it('an altered measurement no longer replays', async () => {
    const quoted = await pcr(IMA_PCR);
    const [first, ...rest] = await imaEvents();
    assert.ok(first);
    const data = Buffer.from(first.data);
    data.writeUInt8(data.readUInt8(data.length - 2) ^ 1, data.length - 2);
    assert.equal(findImaPrefix([{ ...first, data }, ...rest], quoted), undefined);
  });

  it('serves this driver and tpm2-tools at once, each with its own keys', async () => {
    using dir = tempDir('tools');
    const context = join(dir.path, 'key.ctx');
    const done = new AbortController();
    const tools = (async (): Promise<number> => {
      let calls = 0;
      try {
        for (let round = 0; round < ROUNDS; round += 1) {
          await tool('tpm2_createprimary', '-C', 'o', '-G', 'ecc', '-c', context);
          await tool('tpm2_readpublic', '-c', context);
          await tool('tpm2_pcrextend', `16:sha256=${'5a'.repeat(32)}`);
          assert.equal((await tool('tpm2_getcap', 'handles-transient')).trim(), '', 'it sees none of our keys');
          calls += 4;
        }
        return calls;
      } finally {
        done.abort();
      }
    })();
    const anchor = await openAnchor(tpm, NEVER);
    await using ek = await tpm.keys.createPrimary(HANDLE.endorsement, ekEccP256(), NEVER);
    await using session = await tpm.sessions.startHmac({ salt: ek }, NEVER);
    let quotes = 0;
    while (!done.signal.aborted) {
      const digest = sha256(Buffer.from(String(quotes)));
      const [before] = await Promise.all([pcr(14), anchor.extend(digest, NEVER)]);
      assert.equal(toHex(await pcr(14)), toHex(sha256(before, digest)), 'nobody else was there');
      await anchor.quote(digest, NEVER);
      await tpm.info.getRandom(16, NEVER, session.use({ encryptResponse: true }));
      quotes += 1;
    }
    assert.equal(await tools, 4 * ROUNDS);
    assert.ok(quotes > ROUNDS, `${quotes} quotes`);
    assert.ok((await anchor.counter(sha256(Buffer.from('count')), NEVER)).attest.length > 0);
    assert.match(await tool('tpm2_getcap', 'handles-nv-index'), new RegExp(COUNTER_INDEX.toString(16), 'i'));
  });
});
