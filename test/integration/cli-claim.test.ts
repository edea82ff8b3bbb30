/** `tenzro claim` on a real chain, as installer and operator call it: shown here, read there, by others' readers too. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { draft, makeChain, startLedger } from '#test/support/ledger.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { claimKeyDigest, decodeClaimCode } from '#provisioning/claim/code.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { openReader } from '#runtime/ledger/reader.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');

describe('cli: claim', () => {
  let dir: TempDir;
  let dataDir: string;

  const tenzro = async (args: readonly string[]): Promise<Ran> => {
    const { TENZRO_CONFIG: _config, TENZRO_MQTT_PORT: _port, NO_COLOR: _color, ...rest } = process.env;
    return run(process.execPath, [COMMAND, 'claim', ...args], { cwd: dir.path, env: { ...rest, TENZRO_DATA: dataDir } });
  };
  const json = async (args: readonly string[], exit = 0): Promise<Record<string, unknown>> => {
    const ran = await tenzro([...args, '--json']);
    assert.equal(ran.code, exit, ran.output);
    return JSON.parse(ran.stdout) as Record<string, unknown>;
  };
  const failure = async (args: readonly string[]): Promise<unknown> => (await json(args, 2))['error'];

  before(async () => {
    dir = tempDir('cli-claim');
    dataDir = join(dir.path, 'data');
    await makeChain(dataDir, { entries: 2, blocks: 1 });
  });
  after(() => { dir[Symbol.dispose](); });

  it('shows a code for the keys of the genesis, new each time, and keeps it for its owner only', async () => {
    const [first, second] = [await json(['show']), await json(['show'])];
    await using reader = await openReader(dataDir);
    const { identity } = decodeBlock(reader.block(0).payload);
    assert.ok(identity);
    const { code, ...said } = second;
    const held = decodeClaimCode(String(code));
    assert.deepEqual(said, { kind: 'shown', expiresInSeconds: 600, discriminator: held.discriminator, transports: ['lan'], keyDigest: toHex(claimKeyDigest({ signingKey: sha256(identity.signingKey) })), file: null });
    assert.equal(toHex(held.keyDigest), said.keyDigest);
    assert.notEqual(first['code'], code);
    assert.equal(statSync(join(dataDir, 'claim', 'shown.cbor')).mode & 0o777, 0o600);
  });

  it('shows it beside a gateway that has the chain open', async () => {
    await using ledger = await startLedger(dataDir);
    assert.equal((await tenzro(['show'])).code, 0);
    await ledger.append(draft('and it goes on'));
  });

  it('shows the same printed code until it is used', async () => {
    const [first, second] = [await json(['show', '--printed']), await json(['show', '--printed'])];
    assert.deepEqual([first['code'], first['kind'], first['expiresInSeconds']], [second['code'], 'printed', null]);
  });

  it('draws it on the terminal, with the code to type below', async () => {
    for (const ground of [[], ['--ground', 'light']]) {
      const { stdout, code } = await tenzro(['show', ...ground]);
      assert.equal(code, 0);
      const lines = stdout.split('\n');
      const typed = lines.find((line) => line.startsWith('TZ1:')) ?? '';
      assert.match(typed, /^TZ1:(?: \S{2,5})+$/);
      assert.ok(lines.slice(0, 21).every((line) => /^[ ▀▄█]{41}$/.test(line)), stdout);
      assert.match(stdout, /within 10 minutes/);
      assert.equal(decodeClaimCode(typed).transports.length, 1);
    }
  });

  it('writes a picture that zbar and claim read agree upon, and overwrites none', async function () {
    const zbarimg = requirePeer(this, 'zbarimg');
    const { code, discriminator, keyDigest, file } = await json(['show', '--png', 'code.png']);
    assert.equal(file, 'code.png');
    assert.equal(execFileSync(zbarimg, ['--nodbus', '-q', '--raw', join(dir.path, 'code.png')], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim(), code);
    const said = { version: 1, keyDigest, discriminator, transports: ['lan'] };
    assert.deepEqual(await json(['read', '--image', 'code.png']), said);
    assert.deepEqual(await json(['read', '--code', String(code)]), said);
    assert.deepEqual(await json(['read', '--code', String(code), '--secret']), { ...said, secret: toHex(decodeClaimCode(String(code)).secret) });
    const secret = toHex(decodeClaimCode(String(code)).secret);
    assert.ok(!(await tenzro(['read', '--image', 'code.png'])).output.includes(secret));
    assert.equal(statSync(join(dir.path, 'code.png')).mode & 0o777, 0o600);
    const before = readFileSync(join(dir.path, 'code.png'));
    assert.match((await tenzro(['show', '--png', 'code.png'])).output, /cannot write code\.png/);
    assert.deepEqual(readFileSync(join(dir.path, 'code.png')), before);
  });

  it('reads a picture without a network', async function () {
    const { keyDigest } = await json(['show', '--png', 'offline.png']);
    const { stdout, output } = await run(requirePeer(this, 'unshare'), ['-rn', process.execPath, COMMAND, 'claim', 'read', '--image', 'offline.png', '--json'], { cwd: dir.path });
    assert.equal((JSON.parse(stdout) as Record<string, unknown>)['keyDigest'], keyDigest, output);
  });

  it('makes a sheet of labels from lines of codes and names', async function () {
    const codes = await Promise.all(['show', 'show'].map(async (word) => String((await json([word]))['code'])));
    writeFileSync(join(dir.path, 'codes.txt'), `${codes[0]} hall 3, north\n\n${codes[1]}\n`);
    assert.deepEqual(await json(['labels', 'codes.txt', '-o', 'labels.pdf']), { file: 'labels.pdf', labels: 2 });
    const pdftoppm = requirePeer(this, 'pdftoppm');
    execFileSync(pdftoppm, ['-r', '200', '-png', '-singlefile', join(dir.path, 'labels.pdf'), join(dir.path, 'labels')]);
    const read = execFileSync(requirePeer(this, 'zbarimg'), ['--nodbus', '-q', '--raw', join(dir.path, 'labels.png')], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    assert.deepEqual(read.trim().split('\n').toSorted(), codes.toSorted());
    const several = await failure(['read', '--image', 'labels.png']);
    assert.match(JSON.stringify(several), /claim\.no_code.*2 different claim codes/);
  });

  it('says what is wrong, with a code, and shows nothing of a secret', async () => {
    const { code } = await json(['show']);
    writeFileSync(join(dir.path, 'bad.txt'), `${String(code)} fine\n${String(code).slice(0, -3)} cut\n`);
    writeFileSync(join(dir.path, 'text.png'), 'no picture');
    const calls: readonly (readonly [string, readonly string[]])[] = [
      ['claim.code_malformed', ['read', '--code', 'WIFI:S:x;;']], ['claim.code_mistyped', ['read', '--code', String(code).slice(0, -1)]], ['claim.code_newer_version', ['read', '--code', 'TZ2:ABCDE']],
      ['claim.image', ['read', '--image', 'text.png']], ['cli.usage', ['read', '--image', 'none.png']], ['cli.usage', ['read']], ['cli.usage', ['read', '--code', 'x', '--image', 'y']],
      ['claim.code_mistyped', ['labels', 'bad.txt', '-o', 'bad.pdf']], ['cli.usage', ['labels', 'text.none', '-o', 'bad.pdf']], ['cli.usage', ['show', '--ground', 'green']],
    ];
    for (const [expected, args] of calls) assert.match(JSON.stringify(await failure(args)), new RegExp(`"code":"${expected.replace('.', '\\.')}"`), args.join(' '));
    assert.ok(!readdirSync(dir.path).includes('bad.pdf'));
  });

  it('asks to start the gateway once where there are no keys', async () => {
    const fresh = join(dir.path, 'fresh');
    assert.match(JSON.stringify(await failure(['show', '--data', fresh])), /ledger\.no_chain/);
    await (await startLedger(fresh))[Symbol.asyncDispose]();
    assert.match(JSON.stringify(await failure(['show', '--data', fresh])), /claim\.not_ready/);
  });
});
