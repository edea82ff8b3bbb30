import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

describe('broker: persistence', () => {
  it('passes the public abstract suite of aedes-persistence on a real LMDB', () => {
    const suite = fileURLToPath(new URL('../support/brokerPersistence.suite.ts', import.meta.url));
    const { status, stdout } = spawnSync(process.execPath, ['--test', '--test-reporter=tap', suite], { encoding: 'utf8', timeout: 60_000 });
    assert.equal(status, 0, stdout.split('\n').filter((line) => /not ok|error:/.test(line)).join('\n'));
    assert.ok(Number(/^# pass (\d+)$/m.exec(stdout)?.[1]) >= 50, stdout.slice(-400));
  }).timeout(70_000);
});
