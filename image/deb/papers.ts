/** What comes with the program: control fields, copyright, changelog, bill of materials. All follow from the lock and the commit: no clock, no machine. */
import { createHash } from 'node:crypto';
import type { LockedPackage } from './lock.ts';

/** Debian's names of processors. */
export type DebianArch = 'amd64' | 'arm64';

export interface Release {
  /** Debian's version: of package.json, with day and commit. */
  readonly version: string;
  readonly arch: DebianArch;
  /** Of the commit, in seconds since 1970: the time that every file bears. */
  readonly epochSeconds: number;
}

const MAINTAINER = 'Tenzro Edge <packages@tenzro.invalid>';

/** Debian Policy 5.3. Node and ONNX Runtime ask for glibc 2.34 and the libstdc++ of GCC 11; `passwd` brings useradd. `installedBytes` is rounded up to KiB. */
export function controlFile({ version, arch }: Release, installedBytes: number): string {
  return [
    'Package: tenzro-edge', `Version: ${version}`, `Architecture: ${arch}`, `Maintainer: ${MAINTAINER}`, `Installed-Size: ${Math.ceil(installedBytes / 1024)}`,
    'Depends: libc6 (>= 2.34), libstdc++6 (>= 11), libgcc-s1, passwd, init-system-helpers (>= 1.54)', 'Suggests: swtpm, tpm-udev',
    'Section: net', 'Priority: optional',
    'Description: IoT gateway whose data can be trusted',
    ' Records MQTT and bus readings, inferences and commands in a datachain that', ' the TPM attests and that anyone can verify offline. Brings its own Node and', ' all it needs.', '',
  ].join('\n');
}

/** deb-changelog(5), one entry. */
export function changelog({ version, epochSeconds }: Release): string {
  const date = new Date(epochSeconds * 1_000).toUTCString().replace('GMT', '+0000');
  return `tenzro-edge (${version}) unstable; urgency=medium\n\n  * See the repository's history.\n\n -- ${MAINTAINER}  ${date}\n`;
}

/** Machine-readable debian/copyright 1.0. Licence texts that packages bring lie beside their code. */
export function copyrightFile(packages: readonly LockedPackage[]): string {
  const stanzas = packages.map(({ path, name, version, license }) => [`Files: opt/tenzro-edge/${path}/*`, `Copyright: the authors of ${name} ${version}`, `License: ${license}`, ''].join('\n'));
  return [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/', 'Upstream-Name: tenzro-edge',
    'Comment: The texts of the licences of npm packages and of Node lie beside their files.', '',
    'Files: *', 'Copyright: 2026 the authors of Tenzro Edge', 'License: Apache-2.0', ' On Debian systems: /usr/share/common-licenses/Apache-2.0', '',
    ...stanzas,
  ].join('\n');
}

/** CycloneDX 1.6. Each component says in which folder its files lie, so every file has a package: the longest folder that it lies in. */
export function billOfMaterials({ version, arch, epochSeconds }: Release, packages: readonly LockedPackage[], folderOf: (locked: LockedPackage) => readonly string[]): string {
  const components = packages.map((locked) => {
    const purl = `pkg:npm/${locked.name.replace('@', '%40')}@${locked.version}`;
    return {
      type: 'library', 'bom-ref': `${purl}#${locked.path}`, name: locked.name, version: locked.version, purl, scope: 'required',
      hashes: [{ alg: 'SHA-512', content: Buffer.from(locked.integrity.replace('sha512-', ''), 'base64').toString('hex') }],
      ...(locked.license === 'NOASSERTION' ? {} : { licenses: [{ expression: locked.license }] }),
      evidence: { occurrences: folderOf(locked).map((location) => ({ location })) },
    };
  });
  const own = `pkg:deb/tenzro-edge@${version}?arch=${arch}`;
  const body = {
    bomFormat: 'CycloneDX', specVersion: '1.6', version: 1,
    metadata: { timestamp: new Date(epochSeconds * 1_000).toISOString(), component: { type: 'application', 'bom-ref': own, name: 'tenzro-edge', version, purl: own, licenses: [{ expression: 'Apache-2.0' }] } },
    components,
    dependencies: [{ ref: own, dependsOn: components.map((component) => component['bom-ref']) }],
  };
  return `${JSON.stringify({ ...body, serialNumber: `urn:uuid:${uuidOf(JSON.stringify(body))}` }, undefined, 2)}\n`;
}

/** RFC 9562, section 5.8: version 8, of the content, so that the same package has the same number. */
function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
