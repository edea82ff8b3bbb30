/**
 * Our replay of boot event logs against `tpm2_eventlog` of tpm2-tools and against a TPM that is really extended, and of IMA lists against `evmctl` of
 * ima-evm-utils. Logs are written here with
 * every class of event; real machines' logs are taken too where there are any: this machine's own, and the files in the folder that TENZRO_BOOT_LOGS
 * names (docs/operate/testing.md says where published ones are).
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Context } from 'mocha';
import { toHex } from '#runtime/core/bytes.ts';
import { parseEventLog, replayEventLog, type BootLog } from '#runtime/crypto/eventLog.ts';
import { parseImaLog, replayImaLog } from '#runtime/crypto/imaLog.ts';
import { EV, EVERY_EVENT, SOME_FILES, writeEventLog, writeImaEvent, writeImaList, writeOldEventLog, type ImaTemplate } from '#test/support/measuredLogs.ts';
import { requirePeer } from '#test/support/peers.ts';
import { Program, run } from '#test/support/process.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** tpm2-tools before 5.5 extend the startup locality's EV_NO_ACTION too: PCR 0 of such a log is for the TPM itself to judge, below. */
const hasNoAction = ({ events }: BootLog): boolean => events.slice(1).some(({ type }) => type === EV.noAction);
const EXTENDING = EVERY_EVENT.filter(({ type }) => type !== EV.noAction);
const OWN_LOG = '/sys/kernel/security/tpm0/binary_bios_measurements';

interface Told {
  /** `PCR type digest data size` of each event. */
  readonly events: readonly string[];
  readonly pcrs: ReadonlyMap<number, string>;
}

/** What tpm2_eventlog prints of one bank. Its form for the old format is no YAML, so that it is read line by line. */
function readTold(text: string, bank: string): Told {
  const [body = '', tail = ''] = text.split(/^pcrs:$/m);
  const events = body.split(/^[- ] (?:EventNum: \d+\n *)?(?=PCRIndex: )/m).slice(1).map((event) => {
    const field = (name: string): string => new RegExp(`^ *${name}: (.*)$`, 'm').exec(event)?.[1] ?? '';
    const digest = new RegExp(`AlgorithmId: ${bank}\\n +Digest: "([0-9a-f]*)"`).exec(event)?.[1] ?? '';
    return `${field('PCRIndex')} ${field('EventType')} ${digest} ${field('EventSize')}`;
  });
  const values = new RegExp(`^  ${bank}:\\n((?:    .*\\n?)*)`, 'm').exec(tail)?.[1] ?? '';
  return { events, pcrs: new Map(Array.from(values.matchAll(/^ +(\d+) +: 0x([0-9a-f]+)$/gim), ([, pcr, value = '']) => [Number(pcr), value.toLowerCase()])) };
}

/** The same of ours. The header has no digest in our bank, and none in the peer's list. */
function tell(log: BootLog): Told {
  const events = log.events.map(({ pcr, name, digest, data }) => `${pcr} ${name} ${digest ? toHex(digest) : ''} ${data.length}`);
  return { events, pcrs: new Map([...replayEventLog(log)].map(([pcr, value]) => [pcr, toHex(value)])) };
}

describe('measured boot, judged by others', function () {
  this.timeout(20_000);
  let dir: TempDir;
  before(() => { dir = tempDir('measured'); });
  after(() => { dir[Symbol.dispose](); });

  /** False where the peer itself dies of the log: 5.4 does of some in the old format. */
  async function compare(program: string, name: string, bytes: Uint8Array): Promise<boolean> {
    const file = join(dir.path, 'log.bin');
    writeFileSync(file, bytes);
    const log = parseEventLog(bytes);
    assert.equal(log.fault, undefined, name);
    assert.ok(log.bank, `${name}: a bank that both know`);
    const { code, stdout, output } = await run(program, ['--eventlog-version=2', file]);
    if (code === 'SIGSEGV') return false;
    assert.equal(code, 0, `${name}: ${output}`);
    const told = readTold(stdout, log.bank);
    assert.deepEqual(tell(log).events, told.events, name);
    const skipped = hasNoAction(log) ? 0 : undefined;
    const comparable = ({ pcrs }: Told): unknown => [...pcrs].filter(([pcr, value]) => pcr !== skipped && !/^0*$/.test(value)).toSorted(([a], [b]) => a - b); // it shows PCRs that no event extended, too
    assert.deepEqual(comparable(tell(log)), comparable(told), name);
    return true;
  }

  describe('tpm2_eventlog', () => {
    it('agrees with our replay, event by event and PCR by PCR', async function () {
      const program = requirePeer(this, 'tpm2_eventlog');
      assert.ok(await compare(program, 'sha1 and sha256', writeEventLog(EXTENDING)));
      assert.ok(await compare(program, 'four banks', writeEventLog(EXTENDING, ['sha1', 'sha256', 'sha384', 'sha512'])));
      assert.ok(await compare(program, 'sha256 alone', writeEventLog(EXTENDING, ['sha256'], Buffer.from('vendor'))));
    });

    it('agrees on the old SHA-1 format', async function () {
      assert.ok(await compare(requirePeer(this, 'tpm2_eventlog'), 'old format', writeOldEventLog(EXTENDING)));
    });

    it('agrees on the logs of real machines', async function () {
      const program = requirePeer(this, 'tpm2_eventlog');
      const folder = process.env['TENZRO_BOOT_LOGS'];
      const files = [...(isReadable(OWN_LOG) ? [OWN_LOG] : []), ...(folder === undefined ? [] : readdirSync(folder).map((name) => join(folder, name)))];
      if (files.length === 0) skipBecause(this, 'this machine has no boot event log, and TENZRO_BOOT_LOGS names no folder of published ones');
      const judged: string[] = [];
      for (const file of files) if (await compare(program, file, readFileSync(file))) judged.push(file);
      assert.ok(judged.length > 0, 'the peer reads one of them');
    });
  });

  describe('a TPM (swtpm)', () => {
    it('holds what we replay when it started at the locality that the log states', async function () {
      const log = parseEventLog(writeEventLog(EVERY_EVENT));
      await using tpm = await bareTpm(this, dir.path, ['-l', '3']);
      assert.equal(await tpm.replay(log), toHex(replayEventLog(log).get(0) ?? Buffer.alloc(0)));
    });

    it('holds what we replay when hardware measured before the firmware started', async function () {
      const hcrtm = { pcr: 0, type: EV.hcrtm, data: Buffer.from('HCRTM') };
      const log = parseEventLog(writeEventLog([hcrtm, ...EXTENDING]));
      await using tpm = await bareTpm(this, dir.path, ['-h', 'HCRTM']);
      // The interface has measured the first event by itself (Part 1 §34.3).
      assert.equal(await tpm.replay({ events: log.events.filter(({ type }) => type !== EV.hcrtm) }), toHex(replayEventLog(log).get(0) ?? Buffer.alloc(0)));
    });
  });

  describe('evmctl', () => {
    /** What it says when it is told that PCR 10 holds what our replay yields. */
    async function judge(program: string, list: Buffer, pcr10: Uint8Array): Promise<string> {
      const [file, pcrs] = [join(dir.path, 'ima.bin'), join(dir.path, 'pcrs')];
      const pairs = (value: Uint8Array): string => toHex(value).toUpperCase().replaceAll(/../g, '$& ').trimEnd();
      writeFileSync(file, list);
      writeFileSync(pcrs, Array.from({ length: 24 }, (_, pcr) => `PCR-${String(pcr).padStart(2, '0')}: ${pairs(pcr === 10 ? pcr10 : Buffer.alloc(32))}\n`).join(''));
      const { code, output } = await run(program, ['-v', 'ima_measurement', '--ignore-violations', '--pcrs', `sha256,${pcrs}`, file]);
      return `${code === 0 ? 'accepts' : 'refuses'}: ${output}`;
    }
    const templates: readonly ImaTemplate[] = ['ima', 'ima-ng', 'ima-sig', 'ima-ngv2', 'ima-buf', 'd-ng|n-ng'];

    it('finds our value of PCR 10 right, for every template', async function () {
      const program = requirePeer(this, 'evmctl');
      for (const template of templates) {
        const list = writeImaList(SOME_FILES, template);
        const said = await judge(program, list, replayImaLog(parseImaLog(list).events));
        assert.match(said, /^accepts: /, template);
        assert.match(said, /sha256 PCR-10: succeed at entry 4\n/, template);
      }
    });

    it('finds the same prefix, and refuses what we would', async function () {
      const program = requirePeer(this, 'evmctl');
      const list = writeImaList(SOME_FILES);
      const { events } = parseImaLog(list);
      assert.match(await judge(program, list, replayImaLog(events.slice(0, 2))), /succeed at entry 2\n/);
      assert.match(await judge(program, list, replayImaLog(events.slice(1))), /^refuses: /);
    });

    it('agrees on violations', async function () {
      const program = requirePeer(this, 'evmctl');
      const list = Buffer.concat([writeImaList(SOME_FILES), writeImaEvent({ path: '/tmp/changing', content: 'x', violation: true })]);
      assert.match(await judge(program, list, replayImaLog(parseImaLog(list).events)), /sha256 PCR-10: succeed at entry 5\n/);
    });
  });
});

interface BareTpm extends AsyncDisposable {
  /** Extends PCR 0 as the log says, and reads it. */
  replay(log: Pick<BootLog, 'events'>): Promise<string>;
}

/** A TPM that nobody has started, in the hands of `swtpm_ioctl` first. Commands are raw: no driver of ours stands between. */
async function bareTpm(context: Context, folder: string, control: readonly string[]): Promise<BareTpm> {
  const state = mkdtempSync(join(folder, 'tpm-'));
  const [server, ctrl] = [join(state, 'tpm.sock'), join(state, 'ctrl.sock')];
  const program = requirePeer(context, 'swtpm');
  const ioctl = requirePeer(context, 'swtpm_ioctl');
  await using resources = new AsyncDisposableStack();
  const swtpm = resources.use(new Program(program, ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--server', `type=unixio,path=${server}`, '--ctrl', `type=unixio,path=${ctrl}`, '--flags', 'not-need-init']));
  await until('swtpm', async () => (await run(ioctl, ['--unix', ctrl, '-i'])).code === 0, { hopeless: () => (swtpm.running ? undefined : swtpm.output) });
  const { code, output } = await run(ioctl, ['--unix', ctrl, ...control]);
  assert.equal(code, 0, output);
  const socket = connect(server);
  resources.defer(() => { socket.destroy(); });
  const ask = async (hex: string): Promise<Buffer> => {
    socket.write(Buffer.from(hex, 'hex'));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.equal(answer.readUInt32BE(6), 0, 'TPM_RC_SUCCESS');
    return answer;
  };
  await ask('80010000000c000001440000'); // TPM2_Startup(CLEAR)
  const kept = resources.move();
  return {
    async replay({ events }) {
      for (const { pcr, type, digest } of events) {
        if (pcr !== 0 || type === EV.noAction || !digest) continue;
        // TPM2_PCR_Extend of PCR 0 with an empty password and one SHA-256 digest
        await ask(`80020000004100000182000000000000000940000009000000000000000001000b${toHex(digest)}`);
      }
      return toHex((await ask('8001000000140000017e00000001000b03010000')).subarray(-32)); // TPM2_PCR_Read of PCR 0, SHA-256
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
