/** What a gateway says about itself: GET /status on the control socket, and `tenzro status --json`. Names here are stable. */
import type { ChainStatus, UpstreamStatus } from '#runtime/core/types.ts';
import type { StalledWork } from './progress.ts';

export interface GatewayStatus {
  /** The broker listens, the ledger takes entries. */
  readonly ready: boolean;
  readonly node: string;
  readonly version: string;
  readonly pid: number;
  readonly uptimeMs: number;
  readonly dataDir: string;
  readonly chain: ChainStatus;
  readonly trust: { readonly level: string; readonly reason: string };
  /** Where the TPM's counter stands in the chain; null before the run's first block, and in a chain without anchors. */
  readonly anchor: AnchorStatus | null;
  readonly identity: IdentityStatus;
  /** Null where no verifier is configured. */
  readonly lease: LeaseStatus | null;
  readonly fleet: FleetStatus;
  readonly claim: ClaimStatus;
  readonly portal: PortalStatus;
  readonly broker: { readonly listeners: readonly ListenerStatus[]; readonly clients: number };
  readonly models: readonly ModelStatus[];
  /** Sealed since the gateway started. */
  readonly blocksSealed: number;
  /** What is being installed; null while nothing is. */
  readonly update: { readonly what: string; readonly percent: number } | null;
  /** Progress: a follower with work before it that does not move is named here. */
  readonly health: { readonly ok: boolean; readonly stalled: readonly StalledWork[] };
  /** What is wrong with the card that it runs from; empty where it does not run from our image. */
  readonly board: readonly BoardStatus[];
  readonly counters: Readonly<Record<string, number>>;
}

export interface BoardStatus {
  /** board.*: docs/reference/error-codes.md. */
  readonly code: string;
  readonly detail: string;
  readonly hint: string;
}

/** To whom the gateway belongs and reports, and what it was told to do. */
export interface FleetStatus {
  /** The owner's first. */
  readonly upstreams: readonly UpstreamStatus[];
  /** Commands that have not ended. */
  readonly commands: readonly { readonly type: string; readonly id: string; readonly state: string }[];
  /** Null while nobody has claimed the gateway. */
  readonly owner: OwnerStatus | null;
  /** ahead: an owner said, signed, that it is much earlier · behind: it is later for sure. Neither is believed; `provable` is what validities are judged by. */
  readonly clock: { readonly state: 'unrefuted' | 'ahead' | 'behind'; readonly wall: string; readonly provable: string };
}

interface OwnerStatus {
  readonly words: string;
  /** JWK thumbprints of the owner's keys, and of those that count no more. */
  readonly keys: readonly string[];
  readonly revoked: readonly string[];
  /** Of the fleet's certificate that its broker is shown; null where it is shown none. */
  readonly certificateUntil: string | null;
}

interface AnchorStatus {
  /** The last anchor's block, and the counter that it certified. Decimal: 64 bits do not fit a JSON number. */
  readonly block: number;
  readonly counter: string;
  /** Increments of the counter that no block of the whole chain names: anchored blocks were cut, a disk image was restored, or another program increments it. */
  readonly missing: string;
}

interface ListenerStatus {
  readonly url: string;
  readonly anonymous: boolean;
  /** The oldest version that it takes, and its handshakes so far by key exchange group. */
  readonly tls?: { readonly minVersion: string; readonly groups: Readonly<Record<string, number>> };
}

/** Whether a verifier vouches for the gateway. */
export interface LeaseStatus {
  /** none · enrolling · challenged · held · due · lapsed · refused: docs/reference/lease.md. */
  readonly lease: string;
  /** Trust level that the verifier computed; `none` without a lease in force. */
  readonly level: string;
  /** ISO 8601, by the gateway's wall clock. */
  readonly until?: string;
  readonly reason?: string;
  readonly verifier: string;
  readonly enrolled: boolean;
  /** Key exchange of the last connection to the verifier; null before it. */
  readonly keyExchange: string | null;
}

/** Whose the gateway is. */
export interface ClaimStatus {
  /** unready: its keys are not open yet · unclaimed: no code waits · waiting: one does · claiming: somebody has confirmed it · locked: after five wrong secrets, until power is cycled · owned. */
  readonly state: 'unready' | 'unclaimed' | 'waiting' | 'claiming' | 'locked' | 'owned';
  /** Where claims and orders are taken; null while nobody may come. */
  readonly port: number | null;
  /** Discriminators of the codes that wait. */
  readonly discriminators: readonly number[];
  /** Of the claim that is under way or made the owner. */
  readonly words: string | null;
  readonly claimId: string | null;
  /** Rises with every claim and order; null until the record is read. */
  readonly generation: number | null;
  /** What went wrong last; null while nothing did. */
  readonly code: string | null;
  readonly detail: string | null;
}

/** The access point of a gateway without owner and network. Never a secret: its passphrase is for who stands before the screen. */
export interface PortalStatus {
  /** disabled: it never opens here · off: not needed · waiting: for a network to come by itself · open: a page waits · trying: a network that was handed over. */
  readonly state: 'disabled' | 'off' | 'waiting' | 'open' | 'trying';
  /** Where the page is; null while it is not open. */
  readonly url: string | null;
  /** What was handed over last, and why it did not work; `reason` is null where it did. */
  readonly last: { readonly network: string; readonly reason: string | null } | null;
  /** What is wrong now; null while nothing is. */
  readonly code: string | null;
  readonly detail: string | null;
}

/** The gateway's keys. Never a secret. */
export interface IdentityStatus {
  /** none: not made yet · unasked: nobody has asked yet · ready: they would open · open · locked: entries are recorded, blocks wait. */
  readonly state: 'none' | 'unasked' | 'ready' | 'open' | 'locked';
  /** Why they are locked, what was found, and how to recover; null while they are not. */
  readonly code: string | null;
  readonly detail: string | null;
  readonly hint: string | null;
  /** tpm: sealed to boot state and revocation counter; file: only the file's mode protects them, `unprotected` says why. */
  readonly protection: 'tpm' | 'file' | null;
  readonly unprotected: string | null;
  /** P-256 key that approves boot states, x ‖ y, hex. */
  readonly authority: string | null;
  /** SHA-256 of the ML-DSA-65 public key, hex. */
  readonly signingKeyDigest: string | null;
  readonly createdAt: string | null;
  /** The TPM's hierarchies have authorisations; null until sealed keys were open. */
  readonly tpmOwned: boolean | null;
  /** What `tenzro identity request` prints while no approval fits; null else. */
  readonly request: string | null;
}

interface ModelStatus {
  readonly name: string;
  /** SHA-256 of the ONNX file, hex. */
  readonly digest: string;
  /** Execution provider that really runs it. */
  readonly provider: string;
}
