import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { acquireLock } from '#runtime/ledger/lock.ts';
import { Program } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const LOCK = new URL('../../runtime/ledger/lock.ts', import.meta.url).href;

describe('ledger: the lock of a killed writer whose parent never asks for its exit code', () => {
  it('is free again', async function () {
    this.timeout(20_000);
    using dir = tempDir('zombie');
    const path = join(dir.path, 'writer.lock');
    const victim = `import { acquireLock } from '${LOCK}'; acquireLock('${path}'); console.log('held by ' + process.pid); process.kill(process.pid, 'SIGKILL');`;
    await using parent = new Program('/bin/sh', ['-c', `"${process.execPath}" --input-type=module -e "${victim}" & exec sleep 60`]);
    const held = await until('the lock to be held', () => /held by (\d+)/.exec(parent.stdout)?.[1], { hopeless: () => (parent.running ? undefined : parent.output) });
    await until('a zombie', () => /\) Z /.test(readFileSync(`/proc/${held}/stat`, 'utf8')));
    acquireLock(path)[Symbol.dispose]();
    assert.match(readFileSync(`/proc/${held}/stat`, 'utf8'), /\) Z /, 'it was there all the time');
  });
});
