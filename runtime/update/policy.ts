/** What may be installed over what. Pure. Signatures are the slots' to judge; this comes after them. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { BundleFacts, SlotsStatus } from '#runtime/core/ports.ts';
import { compareVersions } from './version.ts';

export interface InstallPolicy {
  /** Who asks says that it may be older than what runs, and who may consent has. */
  readonly isDowngradeAllowed: boolean;
  /** A version that did not prove itself here is not tried again by who only found it lying there. */
  readonly returnedVersion?: string;
}

/** `already`: it is what runs, and nothing is to be done. Throws `update.on_trial`, `update.compatible`, `update.older`. */
export function judgeBundle({ compatible, version }: BundleFacts, { compatible: own, booted }: SlotsStatus, { isDowngradeAllowed, returnedVersion }: InstallPolicy): 'install' | 'already' {
  if (compatible !== own) throw new TenzroError('update.compatible', `the bundle is for '${compatible}', this is '${own}'`);
  if (booted.version.kind === 'value') {
    const order = compareVersions(version, booted.version.value);
    if (order === 0) return 'already';
    if (order < 0 && !isDowngradeAllowed) throw new TenzroError('update.older', `the bundle is ${version}, ${booted.version.value} runs`);
  }
  // What is written over now would be the way back.
  if (booted.state === 'trial') throw new TenzroError('update.on_trial', `${versionOf(booted.version)} in slot ${booted.name} has not proved itself yet`);
  if (version === returnedVersion) throw new TenzroError('update.returned', `${version} was tried here and did not prove itself`);
  return 'install';
}

const versionOf = (version: SlotsStatus['booted']['version']): string => (version.kind === 'value' ? version.value : 'what runs');
