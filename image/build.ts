/** `npm run build:image`: an image to flash, a bundle to update with, and what is published beside them. */
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { emulatedTpmModule } from '#image/base/emulatedTpm.ts';
import { baseTree } from '#image/base/tree.ts';
import { cacheHome } from '#image/tools/fetch.ts';
import { openTools } from '#image/tools/tools.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { developmentSigner, namedSigner, type Signer } from './bundle/keys.ts';
import { buildImage, type BuiltImage, type ImageOptions } from './image.ts';
import { MIB } from './layout.ts';
import { compareBuilds } from './release/compare.ts';

const HELP = `npm run build:image -- [options]          as root, on Debian (amd64)

Builds the image for Raspberry Pi 3, 4 and Zero 2: a folder with .img.xz, .bmap, .raucb, SHA256SUMS, its signature,
the bill of materials and the list for Raspberry Pi Imager.

  --out DIR         where the folder goes (dist)
  --commit REV      which commit of the gateway (HEAD); image/ must be that commit's, but for --draft
  --packages        with the Debian packages for amd64 and arm64, under the same checksums (npm run build does that)
  --draft           packed in a tenth of the time, a third larger
  --key FILE        who signs bundles and checksums: private key, its certificate (with those up to the authority, if there
  --cert FILE       are any between), and the authority's certificate, which every card built here trusts; all PEM.
  --authority FILE  Without --key: keys made on this machine, and everything is called DEVELOPMENT.
  --url URL         where it will be downloaded from, for Imager's list
  --for emulation   with what QEMU's board needs and no real one; not packed; called EMULATION
  --compare         build twice and say what differs
  --help
`;

const OPTIONS = {
  out: { type: 'string', default: 'dist' }, commit: { type: 'string', default: 'HEAD' }, draft: { type: 'boolean', default: false }, packages: { type: 'boolean', default: false },
  key: { type: 'string' }, cert: { type: 'string' }, authority: { type: 'string' },
  url: { type: 'string', default: 'https://downloads.tenzro.invalid/edge/' }, for: { type: 'string' },
  compare: { type: 'boolean', default: false }, help: { type: 'boolean', default: false },
} as const;

type Flags = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values'];

const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => { stop.abort(new Error(`stopped by ${name}`)); });
const line = (text: string): void => { process.stdout.write(`${text}\n`); };

try {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) line(HELP);
  else await build(await optionsOf(values), values.compare);
} catch (error) {
  const hint = error instanceof TenzroError ? `\n${error.code}: ${error.hint}` : '';
  process.stderr.write(`${messageOf(error)}${hint}\n`);
  const isUsage = error instanceof TenzroError ? error.class === 'usage' : String((error as NodeJS.ErrnoException).code).startsWith('ERR_PARSE_ARGS');
  process.exitCode = isUsage ? 2 : 1;
}

async function optionsOf(flags: Flags): Promise<ImageOptions> {
  if (flags.for !== undefined && flags.for !== 'emulation') throw new TenzroError('image.usage', `--for ${flags.for}: there is emulation, and without --for real boards`);
  const { signal } = stop;
  const tools = await openTools({ progress: line, signal });
  return {
    tools, base: await baseTree({ tools, progress: line, signal }), emulatedTpm: flags.for === undefined ? undefined : await emulatedTpmModule({ tools, progress: line, signal }), out: resolve(flags.out), commit: flags.commit, hasPackages: flags.packages, compression: flags.draft || flags.for !== undefined ? 'draft' : 'final',
    signer: await signerOf(flags), url: flags.url, signal, say: line,
  };
}

async function signerOf({ key, cert, authority }: Flags): Promise<Signer> {
  if (key === undefined && cert === undefined && authority === undefined) return developmentSigner(cacheHome(), stop.signal);
  if (key === undefined || cert === undefined) throw new TenzroError('image.usage', '--key and --cert belong together');
  return namedSigner(resolve(key), resolve(cert), authority === undefined ? undefined : resolve(authority));
}

async function build(options: ImageOptions, isCompared: boolean): Promise<void> {
  const started = performance.now();
  const first = await buildImage(options);
  tell(first, performance.now() - started);
  if (!isCompared) return;
  const second = await buildImage({ ...options, out: join(options.out, 'again') });
  const compared = await compareBuilds(first.folder, second.folder);
  for (const { file, isSame, reason } of compared) line(`${isSame ? 'identical' : 'differs  '}  ${file}${reason === undefined ? '' : `: ${reason}`}`);
  const wrong = compared.filter(({ isSame, reason }) => !isSame && reason === undefined);
  if (wrong.length > 0) throw new TenzroError('image.differs', `two builds of ${options.commit} differ in ${wrong.map(({ file }) => file).join(', ')}`);
}

function tell({ folder, sizes, steps, usedBytes }: BuiltImage, tookMs: number): void {
  line(`\n${folder}`);
  for (const [name, bytes] of Object.entries(sizes)) line(`  ${(bytes / MIB).toFixed(1).padStart(7)} MiB  ${name}`);
  line(`a slot holds ${(usedBytes / MIB).toFixed(0)} MiB; ${(tookMs / 1_000).toFixed(0)} s: ${steps.map((step) => `${step.name} ${(step.tookMs / 1_000).toFixed(1)}`).join(', ')}`);
}
