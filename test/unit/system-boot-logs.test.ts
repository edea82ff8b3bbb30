import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readBootLog, readImaLog } from '#drivers/system/bootLogs.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('system: boot logs', () => {
  let dir: TempDir;
  const place = (path: string, bytes: Uint8Array): void => { mkdirSync(dirname(join(dir.path, path)), { recursive: true }); writeFileSync(join(dir.path, path), bytes); };
  beforeEach(() => { dir = tempDir('bootlogs'); });
  afterEach(() => { dir[Symbol.dispose](); });

  it('reads both logs, and of IMA\'s list what is new', async () => {
    const [boot, list] = [Buffer.alloc(70_000, 1), Buffer.alloc(200_000, 2)];
    list[150_000] = 7;
    place('sys/kernel/security/tpm0/binary_bios_measurements', boot);
    place('sys/kernel/security/ima/binary_runtime_measurements', list);
    const options = { root: dir.path, maxBytes: 200_000 };
    assert.deepEqual(await readBootLog(options), { kind: 'value', value: boot });
    assert.deepEqual(await readImaLog(options, 0), { kind: 'value', value: list });
    assert.deepEqual(await readImaLog(options, 150_000), { kind: 'value', value: list.subarray(150_000) });
    assert.deepEqual(await readImaLog(options, 200_000), { kind: 'value', value: Buffer.alloc(0) });
    assert.deepEqual(await readBootLog({ ...options, maxBytes: 69_999 }), { kind: 'none', reason: `${join(dir.path, 'sys/kernel/security/tpm0/binary_bios_measurements')} is longer than 69999 bytes: it is not recorded` });
  });

  it('reads files that state no size, as securityfs does', async () => {
    place('sys/kernel/security/ima/other', Buffer.alloc(0));
    symlinkSync('/proc/version', join(dir.path, 'sys/kernel/security/ima/binary_runtime_measurements'));
    assert.deepEqual(await readImaLog({ root: dir.path, maxBytes: 10_000 }, 6), { kind: 'value', value: readFileSync('/proc/version').subarray(6) });
  });

  it('says what absence means', async () => {
    const options = { root: dir.path, maxBytes: 1_000 };
    const none = async (): Promise<readonly string[]> => (await Promise.all([readBootLog(options), readImaLog(options, 0)])).map((log) => (log.kind === 'none' ? log.reason : 'a log'));
    assert.match((await none()).join(), /does not measure its boot: .*Raspberry Pi.*,this kernel does not measure files/);
    place('sys/kernel/security', Buffer.from('a file where a folder should be'));
    assert.match((await none())[0] ?? '', /does not measure its boot/);
    rmSync(join(dir.path, 'sys/kernel/security'));
    mkdirSync(join(dir.path, 'sys/kernel/security/tpm0/binary_bios_measurements'), { recursive: true });
    await assert.rejects(readBootLog(options), (error: unknown) => error instanceof TenzroError && error.code === 'core.system');
  });
});
