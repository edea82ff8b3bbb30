/** The application bundle of a package: what lies under /opt/tenzro-edge, signed for gateways that keep two folders of it (docs/operate/install.md). */
import { execFile } from 'node:child_process';
import { createHash, createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { constants, createBrotliCompress } from 'node:zlib';
import { compatibleOf, encodeHead, type BundleFile } from '#runtime/crypto/appBundle.ts';
import { rawPublicKeyOf, type Signer } from '#runtime/crypto/mldsa.ts';
import { invariant } from '#runtime/core/errors.ts';
import { CPU_OF, filesOf } from './package.ts';
import type { DebianArch } from './papers.ts';

export interface BundleOptions {
  /** Folder of the application, as the package has it. */
  readonly app: string;
  readonly version: string;
  readonly compatible: string;
  readonly signer: Signer;
  /** Brotli's: 0 to 11. */
  readonly quality: number;
  /** File to write. */
  readonly target: string;
}

/** PKCS#8 PEM, as `openssl genpkey -algorithm ML-DSA-65` writes it. */
export function signerOfPem(pem: string): Signer {
  const key = createPrivateKey(pem);
  const publicKey = rawPublicKeyOf(createPublicKey(key));
  invariant(publicKey, 'a release key is an ML-DSA-65 key');
  return { publicKey, sign: (message) => sign(null, message, key), signAside: async (message) => sign(null, message, key) };
}

const run = promisify(execFile);

/** 16 MiB: the most that every decoder takes (RFC 7932, section 9.1). */
const WINDOW_BITS = 24;

/** Beside a package: the bundle of what it holds. */
export async function bundleOf(deb: string, { version, arch, signer, quality }: { readonly version: string; readonly arch: DebianArch; readonly signer: Signer; readonly quality: number }): Promise<{ readonly file: string; readonly bytes: number }> {
  const work = await mkdtemp(join(tmpdir(), 'tenzro-bundle-'));
  try {
    await run('dpkg-deb', ['--extract', deb, work]);
    const file = join(dirname(deb), `tenzro-edge-app_${version}_${arch}.bundle`);
    await writeBundle({ app: join(work, 'opt/tenzro-edge'), version, compatible: compatibleOf(CPU_OF[arch]), signer, quality, target: file });
    return { file, bytes: (await stat(file)).size };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

export async function writeBundle({ app, version, compatible, signer, quality, target }: BundleOptions): Promise<void> {
  const listed = await filesOf(app);
  const files: BundleFile[] = [];
  for (const { path, size, mode } of listed) files.push({ path, bytes: size, sha256: createHash('sha256').update(await readFile(join(app, path))).digest('hex'), isRun: (mode & 0o100) !== 0 });
  const payload = `${target}.payload`;
  try {
    const hash = createHash('sha256');
    const watch = new Transform({ transform: (chunk: Buffer, _encoding, done) => { hash.update(chunk); done(null, chunk); } });
    const compress = createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_LGWIN]: WINDOW_BITS } });
    await pipeline(Readable.from(contents(app, files)), compress, watch, createWriteStream(payload));
    const head = encodeHead({ compatible, version, payload: { bytes: (await stat(payload)).size, sha256: hash.digest('hex') }, files }, signer);
    await pipeline(Readable.from(joined(head, payload)), createWriteStream(`${target}.next`));
    await rename(`${target}.next`, target);
  } finally {
    await rm(payload, { force: true });
  }
}

async function* contents(app: string, files: readonly BundleFile[]): AsyncGenerator<Uint8Array> {
  for (const { path } of files) for await (const chunk of createReadStream(join(app, path))) yield chunk as Buffer;
}

async function* joined(head: Uint8Array, payload: string): AsyncGenerator<Uint8Array> {
  yield head;
  for await (const chunk of createReadStream(payload)) yield chunk as Buffer;
}
