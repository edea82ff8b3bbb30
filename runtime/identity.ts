/**
 * The composition root of the gateway's identity: joins its files, the TPM that seals it and the authority that approves boot states. The running gateway
 * and the command line open it the same way.
 */
import { readFileSync } from 'node:fs';
import { bootPolicy } from '#drivers/tpm2/bootPolicy.ts';
import { readCertificateFile } from '#drivers/tpm2/ek.ts';
import type { TpmSource } from '#drivers/tpm2/source.ts';
import type { Tpm } from '#drivers/tpm2/tpm.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { formatRequest } from '#provisioning/identity/approval.ts';
import { authorityOfPem, authorityPoint } from '#provisioning/identity/authority.ts';
import { IdentityFiles } from '#provisioning/identity/files.ts';
import { IdentityKeeper, type KeeperOptions } from '#provisioning/identity/keeper.ts';
import type { IdentityState } from '#provisioning/identity/states.ts';
import type { IdentityKeys } from '#runtime/attest/sealer.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros, type Clock } from '#runtime/core/clock.ts';
import { ERRORS, TenzroError, invariant, messageOf } from '#runtime/core/errors.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { spkiOfMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';
import type { IdentityStatus } from '#runtime/observe/status.ts';

export interface IdentityOptions {
  readonly settings: Pick<Settings, 'dataDir' | 'node' | 'attest' | 'identity'>;
  readonly source: TpmSource;
  /** Undefined where the source is none. */
  readonly tpm: Tpm | undefined;
  readonly chainHasBegun: () => boolean;
  readonly clock: Clock;
  /** Told when the state is another than before. MUST NOT throw. */
  readonly onChange?: (status: IdentityStatus) => void;
  readonly onWrite?: KeeperOptions['onWrite'];
}

export class GatewayIdentity implements AsyncDisposable {
  readonly keeper: IdentityKeeper;
  readonly files: IdentityFiles;
  readonly #onChange: (status: IdentityStatus) => void;
  readonly #stop = new AbortController();
  #told = '';
  #request: string | null = null;

  constructor(keeper: IdentityKeeper, files: IdentityFiles, onChange: (status: IdentityStatus) => void = () => undefined) {
    this.keeper = keeper;
    this.files = files;
    this.#onChange = onChange;
  }

  /** For the sealer: asked again before each block while it rejects with `identity.*`. */
  async keys(): Promise<IdentityKeys> {
    try {
      const { signer, exchange } = await this.keeper.keys(this.#stop.signal);
      this.#request = null;
      return { signer, exchangeKey: exchange.publicKey };
    } catch (error) {
      this.#request = error instanceof TenzroError && APPROVABLE.has(error.code) ? await this.#readRequest() : null;
      throw error;
    } finally {
      this.#tell();
    }
  }

  status(state: IdentityState = this.keeper.state): IdentityStatus {
    return { ...statusOf(state, this.keeper.header), tpmOwned: this.keeper.isTpmOwned ?? null, request: this.#request };
  }

  /** Waits for nothing: what the TPM is doing ends without us. */
  async [Symbol.asyncDispose](): Promise<void> { this.#stop.abort(new TenzroError('tpm.connection', 'the gateway is stopping')); }

  /** For who cannot reach the TPM beside the gateway; it may have gone meanwhile. */
  async #readRequest(): Promise<string | null> {
    try {
      return formatRequest(await this.keeper.request(this.#stop.signal));
    } catch (error) {
      if (!(error instanceof TenzroError)) throw error;
      return null;
    }
  }

  #tell(): void {
    const status = this.status();
    const now = `${status.state} ${status.code ?? ''} ${status.detail ?? ''}`;
    if (now === this.#told) return;
    this.#told = now;
    this.#onChange(status);
  }
}

/** An approval would open them. */
const APPROVABLE: ReadonlySet<string> = new Set(['identity.boot_changed', 'identity.unapproved']);

/** Opens nothing yet. Throws `identity.authority` or `attest.ek_certificate` for a file of the configuration that is no P-256 key, or no certificate. */
export function openIdentity({ settings, source, tpm, chainHasBegun, clock, onChange, onWrite }: IdentityOptions): GatewayIdentity {
  const { dataDir, node, identity: { authorityFile, pcrs } } = settings;
  const files = new IdentityFiles(dataDir);
  const authority = authorityFile === '' ? {} : { authority: authorityPoint(authorityOfPem(readPem(authorityFile), 'public')) };
  const keeper = new IdentityKeeper({
    files, vault: tpm ? { kind: 'value', value: openVault(tpm, { certificates: readCertificateFile(settings.attest.tpm.ekCertificateFile) }) } : { kind: 'none', reason: source.kind === 'none' ? source.reason : 'there is no TPM' },
    ownsTpm: source.kind === 'emulated', node: node.name, pcrs: [...new Set(pcrs)].toSorted((a, b) => a - b), ...authority, policyOf: bootPolicy, chainHasBegun, clock, ...(onWrite ? { onWrite } : {}),
  });
  return new GatewayIdentity(keeper, files, onChange);
}

/** SubjectPublicKeyInfo of the signing key that a chain begins with, DER. */
export function identitySpki(chain: Pick<ChainReader, 'block'>): Uint8Array {
  const { identity } = decodeBlock(chain.block(0).payload);
  invariant(identity, 'a genesis has an identity');
  return spkiOfMlDsa65(identity.signingKey);
}

function readPem(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TenzroError('identity.authority', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

function statusOf(state: IdentityState, header: IdentityKeeper['header']): Omit<IdentityStatus, 'request' | 'tpmOwned'> {
  const protection = header?.protection;
  const known = {
    protection: protection?.kind ?? null,
    unprotected: protection?.kind === 'file' ? protection.reason : null,
    authority: protection?.kind === 'tpm' ? toHex(protection.authority) : null,
    signingKeyDigest: header ? toHex(header.signingKeyDigest) : null,
    createdAt: header ? isoOfMicros(header.createdMicros) : null,
  };
  if (state.at === 'locked') return { state: 'locked', code: state.code, detail: state.detail, hint: ERRORS[state.code].hint, ...known };
  const word = state.at === 'open' ? 'open' : state.at === 'creating' ? 'none' : state.at === 'opening' || state.at === 'unsealing' ? 'ready' : 'unasked';
  return { state: word, code: null, detail: null, hint: null, ...known };
}
