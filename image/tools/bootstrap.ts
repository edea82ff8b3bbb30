/** How mmdebstrap makes a root of a lock; pure. */
import type { PackageLock } from './lock.ts';

/** Exactly the locked packages; no manuals and translations, but every licence. */
export const bootstrapArguments = ({ architecture, packages }: PackageLock): string[] => [
  '--mode=root', '--variant=essential', `--architectures=${architecture}`, `--include=${packages.map(({ name }) => name).join(',')}`, '--aptopt=APT::Install-Recommends "false"', '--dpkgopt=force-unsafe-io',
  ...['path-exclude=/usr/share/man/*', 'path-exclude=/usr/share/info/*', 'path-exclude=/usr/share/locale/*', 'path-exclude=/usr/share/doc/*', 'path-include=/usr/share/doc/*/copyright'].map((option) => `--dpkgopt=${option}`),
];
