/**
 * The composition root of attestation: joins the TPM, the gateway's identity, the sealer and its follower. What blocks find missing here (no TPM,
 * locked keys) is theirs to say; nothing of it holds up recording.
 */
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { connectTpm } from '#drivers/tpm2/connection.ts';
import { readCertificateFile } from '#drivers/tpm2/ek.ts';
import { chooseTpm, type TpmSource } from '#drivers/tpm2/source.ts';
import type { Tpm } from '#drivers/tpm2/tpm.ts';
import type { OpenAnchor } from '#runtime/attest/anchorLink.ts';
import { Attester } from '#runtime/attest/attester.ts';
import { findingDraft } from '#runtime/attest/findings.ts';
import { FreshProofs } from '#runtime/attest/freshProofs.ts';
import { Sealer, type BlockInfo } from '#runtime/attest/sealer.ts';
import { softwareDigest } from '#runtime/attest/softwareDigest.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { startAlone } from '#runtime/fleet/types/alone.ts';
import { blockStoreOf, type ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import type { LeaseKeeper } from '#runtime/lease/keeper.ts';
import type { GatewayStatus, IdentityStatus } from '#runtime/observe/status.ts';
import { openIdentity, type GatewayIdentity } from './identity.ts';
import { openLeasing, type LeasingOptions } from './leasing.ts';
import { measuredSealer, openMeasurements } from './measuring.ts';

export interface AttestationOptions {
  readonly settings: Settings;
  /** Folder of package.json. */
  readonly appRoot: string;
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  /** SHA-256 of the model files in use. */
  readonly modelDigests: () => readonly Uint8Array[];
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
  readonly onBlock: (info: BlockInfo) => void;
  /** The keys opened or were locked. MUST NOT throw. */
  readonly onIdentity: (status: IdentityStatus) => void;
  /** SHA-256 of the receipt that the next block names. */
  readonly receipt?: () => Uint8Array | undefined;
  /** Absent where nobody is asked for a lease, whatever the settings say. */
  readonly leasing?: Pick<LeasingOptions, 'store' | 'onTrust'>;
}

export interface Attestation extends AsyncDisposable {
  readonly attester: Attester;
  readonly freshProofs: FreshProofs;
  readonly identity: GatewayIdentity;
  /** Undefined without one. */
  readonly tpm: Tpm | undefined;
  /** Undefined where no verifier is configured. */
  readonly lease: LeaseKeeper | undefined;
  /** What a verifier may at best find in blocks like this one; it computes the level itself and believes none of this. */
  trustOf(block: BlockInfo | undefined): GatewayStatus['trust'];
}

/** Opens nothing yet: the first block asks for TPM and keys. Throws `identity.authority`. */
export function openAttestation({ settings, appRoot, writer, reader, modelDigests, onBlock, onIdentity, receipt, leasing, ...ports }: AttestationOptions): Attestation {
  const source = chooseTpm(settings.attest.tpm, settings.dataDir, startAlone);
  const connection = connectTpm(source);
  const { tpm } = connection;
  const identity = openIdentity({ settings, source, tpm, chainHasBegun: () => reader.blockCount() > 0, clock: ports.clock, onChange: onIdentity });
  const software = softwareDigest(appRoot);
  const measurements = openMeasurements({ ...ports, settings, softwareDigest: software, modelDigests, writer, reader, tpm });
  const sealer = new Sealer({
    ...ports, store: blockStoreOf(writer, reader), openAnchor: anchorOf(source, tpm, settings), device: settings.node.name, softwareDigest: software, bootEpoch: writer.bootEpoch, modelDigests,
    anchorIntervalMs: settings.attest.anchorIntervalMs, openIdentity: () => { connection.begin(); return identity.keys(); },
    context: () => { const held = lease?.context(); return { ...held, receipt: receipt?.(), support: { ...measurements.support, ...held?.support } }; },
    onBlock: (info) => { recordFindings(info, writer, ports); onBlock(info); },
  });
  const attester = new Attester({ ...ports, sealer: measuredSealer(sealer, measurements), store: writer, cadence: settings.attest });
  const freshProofs = new FreshProofs({ attester, source: reader, clock: ports.clock });
  const lease = leasing && openLeasing({ ...ports, ...leasing, settings, writer, reader, tpm, identity, freshBundle: (nonce, options) => freshProofs.freshBundle(nonce, options) });
  return {
    attester, identity, tpm, freshProofs, lease,
    trustOf: (block) => trustOf(source, block, identity.status()),
    async [Symbol.asyncDispose]() {
      await identity[Symbol.asyncDispose]();
      await connection[Symbol.asyncDispose]();
    },
  };
}

function anchorOf(source: TpmSource, tpm: Tpm | undefined, { attest }: Settings): Maybe<OpenAnchor> {
  if (source.kind === 'none' || !tpm) return { kind: 'none', reason: source.kind === 'none' ? source.reason : 'there is no TPM' };
  return { kind: 'value', value: (signal) => openAnchor(tpm, signal, { certificates: readCertificateFile(attest.tpm.ekCertificateFile) }) };
}

/** A chain that finds something missing says so in itself. */
function recordFindings(info: BlockInfo, writer: WriterClient, { clock, counters, log }: Pick<AttestationOptions, 'clock' | 'counters' | 'log'>): void {
  for (const finding of info.findings) {
    const draft = findingDraft(finding, info, clock);
    counters.add(`attest.missing.${finding.kind}`);
    log.error({ sequence: info.sequence, finding: finding.kind }, 'blocks seem to be missing from the chain: tenzro fsck says what is known');
    writer.append(draft).catch((error: unknown) => log.warn({ error: messageOf(error) }, 'not recorded'));
  }
}

function trustOf(tpm: TpmSource, block: BlockInfo | undefined, identity: IdentityStatus): GatewayStatus['trust'] {
  if (identity.state === 'locked') return { level: 'none', reason: `the keys are locked (${identity.code}): ${identity.detail}` };
  if (!block) return { level: 'none', reason: 'no block is sealed yet' };
  if (block.evidence.kind === 'none') return { level: 'software', reason: `signatures only: ${block.evidence.reason}` };
  if (tpm.kind === 'emulated') return { level: 'emulated', reason: tpm.description };
  return { level: 'tpm', reason: `${tpm.kind === 'none' ? '' : tpm.description}: dtpm or enrolled, as the verifier finds it` };
}
