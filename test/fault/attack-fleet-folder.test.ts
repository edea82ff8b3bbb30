import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { COMMAND_TYPES, type Operator } from '#runtime/core/command.ts';
import { encodeDesired, TWIN_TYP, twinSigningInput, type Desired } from '#runtime/core/twin.ts';
import { readActs } from '#runtime/controller/acts.ts';
import { decodeAct } from '#runtime/controller/actsCodec.ts';
import { buildHouse, openHouse } from '#runtime/controller/house.ts';
import { Refused } from '#runtime/controller/refusals.ts';
import { TwinDesk } from '#runtime/controller/twinDesk.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signDetached, thumbprintOf } from '#runtime/crypto/jws.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { controllerKey, TestRegistry } from '#test/support/fleetRegister.ts';
import { Program } from '#test/support/process.ts';
import { silentLog } from '#test/support/sealHarness.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const PASSPHRASE = Buffer.from('correct horse battery');
const houseIn = async (dir: string): Promise<unknown> => buildHouse({ dir, name: 'workshop', hosts: [], policy: 'version: 1\n', passphrase: PASSPHRASE, nowMs: Date.UTC(2026, 10, 23) });

describe('attacks on the folder of a fleet', function () {
  this.timeout(60_000);

  it('folder that others may write in, to put their key in the place of an owner key: neither made nor served, controller.directory', async () => {
    using dir = tempDir('folder');
    const home = join(dir.path, 'fleet');
    mkdirSync(home);
    for (const mode of [0o770, 0o702]) {
      chmodSync(home, mode);
      await assert.rejects(houseIn(home), { code: 'controller.directory' });
    }
    chmodSync(home, 0o755);
    await houseIn(home);
    await openHouse(home, PASSPHRASE);
    chmodSync(home, 0o757);
    await assert.rejects(openHouse(home, PASSPHRASE), { code: 'controller.directory' });
  });

  it('core dump of a program that reads the passphrase, and of a controller that serves: the memory that holds secrets is left out of it', async () => {
    using dir = tempDir('dump');
    const [home, pipe] = [join(dir.path, 'fleet'), join(dir.path, 'pipe')];
    await houseIn(home);
    assert.equal(spawnSync('mkfifo', ['-m', '600', pipe]).status, 0);
    await using program = new Program(process.execPath, [join(import.meta.dirname, '../../runtime/cli/tenzro.js'), 'fleet', 'serve', '--dir', home, '--listen', '127.0.0.1:0', '--passphrase-file', pipe]);
    const filter = (): string => readFileSync(`/proc/${program.pid}/coredump_filter`, 'latin1').trim();
    await until('it to wait for the passphrase', () => filter() === '00000010');
    writeFileSync(pipe, `${PASSPHRASE.toString()}\n`);
    await until('it to serve', () => program.output.includes('controller ready'), { timeoutMs: 25_000 });
    assert.equal(filter(), '00000010');
  });

  it('configuration handed to the controller by who is no owner, for another gateway, or altered under an owner\'s signature: refused, and an act says so', async () => {
    await using registry = await TestRegistry.open();
    const { store, acts, counters } = registry;
    const [owner, thief] = ['an owner', 'a thief'].map((name) => signerOfSeed(sha256(Buffer.from(name)))) as [Signer, Signer];
    const operator: Operator = { name: 'owner-1', publicKey: owner.publicKey, kid: thumbprintOf(owner.publicKey), may: COMMAND_TYPES };
    const desk = new TwinDesk({ store, acts, refused: new Refused(acts, systemClock), counters, signer: controllerKey, operators: () => [operator], log: silentLog });
    const desired: Desired = { version: 1, value: { a: 1 }, confirmSeconds: 60, confirmKey: toHex(sha256(controllerKey.publicKey)) };
    const signed = (message: Desired, by: Signer, gateway = 'edge-1', typ: string = TWIN_TYP.desired): Buffer => encodeDesired(message, signDetached(by, twinSigningInput(gateway, 'config', 'desired', desired), typ));
    const hand = async (bytes: Buffer): Promise<number> => desk.set('edge-1', 'config', bytes, { despiteConflict: false });
    for (const bytes of [signed(desired, thief), signed({ ...desired, value: { a: 2 } }, owner), signed(desired, owner, 'edge-2')]) await assert.rejects(hand(bytes), { code: 'controller.request' });
    await assert.rejects(hand(signed(desired, owner, 'edge-1', 'tenzro-command+json')), { code: 'jws.malformed' }, 'a signature of one purpose is none for another');
    assert.deepEqual(desk.list(), []);
    assert.equal(await hand(signed(desired, owner)), 1);
    const told = readActs(store).map((cose) => decodeAct(cose)).filter(({ what, about }) => what === 'refused' && about === 'edge-1').toArray();
    assert.deepEqual(told.map(({ detail }) => detail.split(':')[0]), ['controller.request', 'jws.malformed']);
  });
});
