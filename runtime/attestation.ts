/**
 * The composition root of attestation: joins the TPM, the gateway's identity, the sealer and its follower. What blocks find missing here (no TPM,
 * locked keys) is theirs to say; nothing of it holds up recording.
 */
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { chooseTpm, type TpmSource } from '#drivers/tpm2/source.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import type { OpenAnchor } from '#runtime/attest/anchorLink.ts';
import { Attester } from '#runtime/attest/attester.ts';
import { loadIdentitySeed } from '#runtime/attest/identityKey.ts';
import { Sealer, type BlockInfo } from '#runtime/attest/sealer.ts';
import { softwareDigest } from '#runtime/attest/softwareDigest.ts';
import type { Clock } from '#runtime/core/clock.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { blockStoreOf, type ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';

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
}

export interface Attestation extends AsyncDisposable {
  readonly attester: Attester;
  /** What a verifier may at best find in blocks like this one; it computes the level itself and believes none of this. */
  trustOf(block: BlockInfo | undefined): GatewayStatus['trust'];
}

const TPM_SHUTDOWN_MS = 2_000;

export async function openAttestation({ settings, appRoot, writer, reader, modelDigests, onBlock, ...ports }: AttestationOptions): Promise<Attestation> {
  const source = chooseTpm(settings.attest.tpm, settings.dataDir);
  const tpm = connect(source);
  const signer = signerOfSeed(await loadIdentitySeed(settings.dataDir, { create: reader.blockCount() === 0 }));
  const sealer = new Sealer({
    ...ports, store: blockStoreOf(writer, reader), openIdentity: async () => ({ signer }), context: () => ({ support: {} }), device: settings.node.name, openAnchor: tpm.anchor,
    softwareDigest: softwareDigest(appRoot), bootEpoch: writer.bootEpoch, modelDigests, anchorIntervalMs: settings.attest.anchorIntervalMs, onBlock,
  });
  const attester = new Attester({ ...ports, sealer, store: writer, cadence: settings.attest });
  return { attester, trustOf: (block) => trustOf(source, block), [Symbol.asyncDispose]: () => tpm[Symbol.asyncDispose]() };
}

function trustOf(tpm: TpmSource, block: BlockInfo | undefined): GatewayStatus['trust'] {
  if (!block) return { level: 'none', reason: 'no block is sealed yet' };
  if (block.evidence.kind === 'none') return { level: 'software', reason: `signatures only: ${block.evidence.reason}` };
  if (tpm.kind === 'emulated') return { level: 'emulated', reason: tpm.description };
  return { level: 'tpm', reason: `${tpm.kind === 'none' ? '' : tpm.description}: dtpm or enrolled, as the verifier finds it` };
}

/** An own emulator is shut down in order, so that its clock is safe at the next start; a real TPM outlives us. */
function connect(source: TpmSource): { readonly anchor: Maybe<OpenAnchor> } & AsyncDisposable {
  if (source.kind === 'none') return { anchor: { kind: 'none', reason: source.reason }, [Symbol.asyncDispose]: async () => undefined };
  const tpm = new Tpm(source.transport);
  let isUsed = false;
  return {
    anchor: { kind: 'value', value: (signal) => { isUsed = true; return openAnchor(tpm, signal); } },
    async [Symbol.asyncDispose]() {
      if (isUsed && source.kind === 'emulated') await tpm.shutdown(AbortSignal.timeout(TPM_SHUTDOWN_MS)).catch(() => undefined); // it ends all the same
      await tpm[Symbol.asyncDispose]();
    },
  };
}
