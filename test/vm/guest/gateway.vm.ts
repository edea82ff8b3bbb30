/** The main job on the machine's TPM: seals blocks while others use the TPM too, and goes on with its chain after the machine has booted again. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { BOOT, DEVICE, OUT } from './machine.ts';

const SEAL_MS = 120_000;
const BLOCKS_UNDER_LOAD = 3;

describe(`the gateway, boot ${BOOT}`, function () {
  this.timeout(2 * SEAL_MS);
  let dir: TempDir;
  let gateway: Gateway;
  const dataDir = (): string => join(dir.path, 'data');
  const kept = { data: join(OUT, 'data'), chain: join(OUT, 'chain.json') };

  before(async () => {
    dir = tempDir('vm-gateway');
    if (BOOT > 1) cpSync(kept.data, dataDir(), { recursive: true });
    const configFile = join(dir.path, 'tenzro.yaml');
    writeFileSync(configFile, `attest:\n  intervalMs: 1000\n  tpm:\n    mode: device\n    path: ${DEVICE}\n`);
    gateway = new Gateway({ dataDir: dataDir(), configFile, args: ['--scenario', 'workshop'], cwd: dir.path });
    await gateway.until('the gateway to be ready', ({ ready }) => ready, SEAL_MS);
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const sealed = (what: string, blocks: number): Promise<GatewayStatus> => gateway.until(what, ({ chain }) => chain.attestedEntries > 0 && chain.blocks >= blocks, SEAL_MS);
  const failures = ({ counters }: GatewayStatus): string[] => Object.keys(counters).filter((name) => name.startsWith('attest.error.'));

  it('seals blocks that the TPM attests', async () => {
    const status = await gateway.until('blocks of this run', ({ trust, chain }) => trust.level !== 'none' && chain.attestedEntries > 0, SEAL_MS);
    assert.equal(status.trust.level, 'tpm', status.trust.reason);
    assert.deepEqual(failures(status), []);
  });

  if (BOOT > 1) {
    it('goes on with the chain of the boot before', async () => {
      const before = JSON.parse(readFileSync(kept.chain, 'utf8')) as GatewayStatus['chain'];
      const { chain } = await sealed('a block of this boot', before.blocks + 1);
      assert.equal(chain.id, before.id);
      assert.ok(chain.entries > before.entries);
    });
  }

  it('seals on while tpm2-tools use the same TPM', async () => {
    const { chain: { blocks } } = await sealed('a block', 2);
    const done = new AbortController();
    const tools = (async (): Promise<number> => {
      let calls = 0;
      while (!done.signal.aborted) {
        for (const [name, ...args] of [['tpm2_createprimary', '-C', 'e', '-c', join(dir.path, 'key.ctx')], ['tpm2_getrandom', '--hex', '16'], ['tpm2_pcrextend', `16:sha256=${'a5'.repeat(32)}`]] as const) {
          const { code, output } = await run(name, ['-T', `device:${DEVICE}`, ...args]);
          assert.equal(code, 0, `${name}: ${output}`);
          calls += 1;
        }
      }
      return calls;
    })();
    const [status, calls] = await Promise.all([sealed('blocks under load', blocks + BLOCKS_UNDER_LOAD).finally(() => done.abort()), tools]);
    assert.ok(calls >= BLOCKS_UNDER_LOAD, `${calls} calls`);
    assert.equal(status.trust.level, 'tpm', status.trust.reason);
    assert.deepEqual(failures(status), []);
  });

  it('proves its last entry to the host', async () => {
    const { chain } = await sealed('a block', 2);
    const file = join(OUT, `boot-${BOOT}.tzp`);
    const proof = await tenzro(dataDir(), ['proof', String(chain.attestedEntries - 1), '-o', file]);
    assert.equal(proof.code, 0, proof.output);
  });

  it('ends in order, and leaves a chain that fsck accepts', async () => {
    assert.equal(await gateway.stop(), 0, gateway.output);
    const checked = await tenzro(dataDir(), ['fsck', '--json']);
    assert.equal(checked.code, 0, checked.output);
    const { stdout } = await tenzro(dataDir(), ['status', '--json']);
    writeFileSync(kept.chain, JSON.stringify((JSON.parse(stdout) as GatewayStatus).chain));
    cpSync(dataDir(), kept.data, { recursive: true, force: true });
  });
});
