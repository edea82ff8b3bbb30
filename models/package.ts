/** A model package on disk: `<modelsDir>/<name>/{model.onnx, manifest.json, MODEL_CARD.md}`. Nothing is run here. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseManifest, type ModelManifest } from './manifest.ts';

export interface ModelPackage {
  readonly manifest: ModelManifest;
  /** The bytes of model.onnx, already checked against the manifest's digest. */
  readonly onnx: Uint8Array;
  /** SHA-256 of `onnx`, 32 bytes. */
  readonly digest: Uint8Array;
}

/** Names of the packages in a folder, sorted; a folder without manifest.json is none. An absent folder holds none. */
export async function listPackages(modelsDir: string): Promise<string[]> {
  let names: string[];
  try {
    names = (await readdir(modelsDir, { withFileTypes: true })).filter((item) => item.isDirectory()).map((item) => item.name);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new TenzroError('model.missing', `cannot list ${modelsDir}: ${messageOf(cause)}`, { cause });
  }
  const found = await Promise.all(names.map(async (name) => ((await exists(join(modelsDir, name, 'manifest.json'))) ? [name] : [])));
  return found.flat().toSorted();
}

/** Throws `model.missing`, `model.manifest`, `model.too_large` or `model.digest`. */
export async function loadPackage(modelsDir: string, name: string): Promise<ModelPackage> {
  const folder = join(modelsDir, name);
  const manifest = parseManifest((await readBounded(join(folder, 'manifest.json'), LIMITS.modelManifestBytesMax)).toString('utf8'));
  if (manifest.name !== name) throw new TenzroError('model.manifest', `manifest: name is "${manifest.name}", the folder is "${name}"`);
  const onnx = await readBounded(join(folder, 'model.onnx'), LIMITS.modelBytesMax);
  const digest = sha256(onnx);
  if (toHex(digest) !== manifest.sha256) {
    throw new TenzroError('model.digest', `${name}: model.onnx (${onnx.length} bytes) has SHA-256 ${toHex(digest).slice(0, 16)}…, the manifest says ${manifest.sha256.slice(0, 16)}…`);
  }
  return { manifest, onnx, digest };
}

async function readBounded(path: string, bytesMax: number): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > bytesMax) throw new TenzroError('model.too_large', `${path} has ${size} bytes; the limit is ${bytesMax}`);
    return await readFile(path);
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('model.missing', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

const exists = (path: string): Promise<boolean> => stat(path).then(() => true, () => false);
