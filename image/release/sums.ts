/** SHA256SUMS over what is published, and its signature, which plain openssl checks. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { withKeys, type Signer } from '../bundle/keys.ts';
import type { Workshop } from '../disk/workshop.ts';

export const SUMS = 'SHA256SUMS';
export const SIGNATURE = 'SHA256SUMS.p7s';

export async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}

/** As sha256sum(1) prints and checks them. Returns the digests by name. */
export async function writeSums(workshop: Workshop, names: readonly string[], signer: Signer): Promise<Readonly<Record<string, string>>> {
  const digests: Record<string, string> = {};
  for (const name of names.toSorted()) digests[name] = await fileDigest(join(workshop.folder, name));
  await writeFile(join(workshop.folder, SUMS), Object.entries(digests).map(([name, digest]) => `${digest}  ${name}\n`).join(''));
  // CMS (RFC 5652), detached, with the certificate in it: who has the authority's certificate needs nothing else.
  await withKeys(signer, workshop.folder, async ({ key, certificate }) => workshop.run('openssl', [
    'cms', '-sign', '-binary', '-md', 'sha256', '-in', SUMS, '-outform', 'PEM', '-out', SIGNATURE, '-signer', certificate, '-inkey', key,
  ]));
  return digests;
}
