/** The bill of materials of an image, CycloneDX 1.6: Debian's packages, the npm packages of the gateway's, what image/ adds. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Origins } from '../disk/bootFiles.ts';
import { OVERLAY, ownershipOf } from './ownership.ts';

/** deb822(5) as dpkg's status file has it, as far as it is told here. */
interface InstalledPackage {
  readonly name: string;
  readonly version: string;
  readonly arch: string;
  readonly source: string;
}

export interface Materials {
  /** The slot's tree, on this machine's disk. */
  readonly root: string;
  readonly name: string;
  readonly version: string;
  readonly epochSeconds: number;
  /** What lies on the boot partition, and from where. */
  readonly bootFiles: Origins;
}

const GATEWAY = 'tenzro-edge';

/** Throws `image.content` where a file of the slot belongs to nobody, or an owner is not installed. */
export async function billOfImage({ root, name, version, epochSeconds, bootFiles }: Materials): Promise<string> {
  const { byOwner } = await ownershipOf(root);
  const installed = installedPackages(await readFile(join(root, 'var/lib/dpkg/status'), 'utf8'));
  const known = new Set([OVERLAY, ...installed.map((item) => item.name)]);
  const unknown = [...byOwner.keys()].filter((owner) => !known.has(owner));
  if (unknown.length > 0) throw new TenzroError('image.content', `files belong to what is not installed: ${unknown.join(', ')}`);
  const onBoot = Map.groupBy(Object.entries(bootFiles), ([, from]) => [...byOwner].find(([, paths]) => paths.includes(from))?.[0] ?? OVERLAY);
  const component = async (item: InstalledPackage): Promise<object> => debianComponent(root, item, byOwner.get(item.name) ?? [], (onBoot.get(item.name) ?? []).map(([path]) => path));
  const own = `pkg:generic/tenzro-edge-image@${version}`;
  const npm = JSON.parse(await readFile(join(root, 'usr/share/doc', GATEWAY, 'sbom.cdx.json'), 'utf8')) as { readonly components: readonly object[]; readonly dependencies: readonly object[] };
  const body = {
    bomFormat: 'CycloneDX', specVersion: '1.6', version: 1,
    metadata: {
      timestamp: new Date(epochSeconds * 1_000).toISOString(),
      component: {
        type: 'firmware', 'bom-ref': own, name, version, licenses: [{ expression: 'Apache-2.0' }],
        ...occurrences([...byOwner.get(OVERLAY) ?? [], ...(onBoot.get(OVERLAY) ?? []).map(([path]) => `boot:/${path}`)]),
      },
    },
    components: [...await Promise.all(installed.map(component)), ...npm.components],
    dependencies: [{ ref: own, dependsOn: installed.map(refOf) }, ...npm.dependencies],
  };
  return `${JSON.stringify({ ...body, serialNumber: `urn:uuid:${uuidOf(JSON.stringify(body))}` }, undefined, 1)}\n`;
}

/** In the order of their names; what is only half installed does not count. */
function installedPackages(status: string): InstalledPackage[] {
  return status.split('\n\n').flatMap((stanza) => {
    const field = (key: string): string | undefined => new RegExp(`^${key}: (.*)$`, 'm').exec(stanza)?.[1];
    const [name, version, arch] = [field('Package'), field('Version'), field('Architecture')];
    if (name === undefined || version === undefined || arch === undefined || field('Status') !== 'install ok installed') return [];
    return [{ name, version, arch, source: field('Source') ?? name }];
  }).toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

const refOf = ({ name, version, arch }: InstalledPackage): string =>
  (name === GATEWAY ? `pkg:deb/${name}@${version}?arch=${arch}` : `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${arch}&distro=trixie`);

/** Licences as the package's copyright file names them, where machines can read it (debian/copyright 1.0); else the file itself is the answer. */
async function debianComponent(root: string, item: InstalledPackage, files: readonly string[], bootFiles: readonly string[]): Promise<object> {
  const path = `/usr/share/doc/${item.name}/copyright`;
  const text = await readFile(join(root, path), 'utf8').catch(() => undefined);
  const names = text !== undefined && /^Format: .*copyright-format/m.test(text) ? [...new Set([...text.matchAll(/^License: *(\S.*)$/gm)].map(([, licence = '']) => licence))].toSorted() : [];
  return {
    type: 'library', 'bom-ref': refOf(item), name: item.name, version: item.version, purl: refOf(item), scope: 'required',
    ...(names.length > 0 ? { licenses: names.map((licence) => ({ license: { name: licence } })) } : {}),
    ...(text === undefined ? {} : { externalReferences: [{ type: 'license', url: `file://${path}` }] }),
    properties: [{ name: 'debian:source', value: item.source }, { name: 'image:files', value: String(files.length) }],
    ...occurrences(bootFiles.map((file) => `boot:/${file}`)),
  };
}

const occurrences = (locations: readonly string[]): object => (locations.length > 0 ? { evidence: { occurrences: locations.toSorted().map((location) => ({ location })) } } : {});

/** RFC 9562, section 5.8: version 8, of the content. */
function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
