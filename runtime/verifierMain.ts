/** The composition root of `tenzro verifier serve`: joins the verifier's folder, the policy file, appraisal, enrolment and the HTTPS server. */
import { Enroller } from '#provisioning/enrolment/enroller.ts';
import { keepOutOfDumps } from '#provisioning/identity/memory.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { whenAborted } from '#runtime/core/abort.ts';
import { systemClock as clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { judgeEkCertificates } from '#runtime/crypto/ekCertificate.ts';
import { signEnrolment } from '#runtime/ledger/enrolment.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { createLog } from '#runtime/observe/log.ts';
import { appraise } from '#runtime/verify/appraise.ts';
import { ekAnchorsOf } from '#runtime/verify/policy.ts';
import { keyDigestOf, openHouse, type VerifierHouse } from '#runtime/verifier/house.ts';
import { VerifierMemory } from '#runtime/verifier/memory.ts';
import { Nonces } from '#runtime/verifier/nonces.ts';
import { openServer } from '#runtime/verifier/server.ts';
import { VerifierService, type EnrolmentDesk, type Finding, type Question } from '#runtime/verifier/service.ts';
import { PolicyFile } from './policyFile.ts';

export interface VerifierOptions {
  readonly dir: string;
  /** Default: `policy.yaml` in the folder. */
  readonly policyFile?: string;
  /** Certificates of TPM makers beside those of the policy: `ekIssuers`. */
  readonly ekRootsFile?: string;
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly logForm: 'people' | 'json';
  readonly color: boolean;
  /** Told once, when it serves. */
  readonly onReady: (ready: { readonly url: string; readonly keyDigest: string; readonly policyDigest: string }) => void;
}

export const DEFAULT_PORT = 8775;

/** Serves until `signal` aborts. Throws `verifier.*`, `policy.invalid`, `ledger.*`. */
export async function runVerifier({ dir, policyFile, ekRootsFile, host, port, logForm, color, onReady }: VerifierOptions, signal: AbortSignal): Promise<void> {
  keepOutOfDumps();
  const log = createLog({ level: 'info', form: logForm, color });
  const counters = new CounterTable();
  await using resources = new AsyncDisposableStack();
  const house = await openHouse(dir);
  const policy = new PolicyFile({ path: policyFile ?? house.policyFile, ekRootsPath: ekRootsFile }, { log, counters, invalid: 'verifier.policy_invalid' });
  const store = resources.use(await openKeyValueStore(house.memoryDir, (state, detail) => { if (state !== 'ok') log.error({ code: state }, detail); }));
  const [memory, nonces, enrolment] = [new VerifierMemory(store), new Nonces(clock), resources.use(new Desk(house, policy))];
  const service = new VerifierService({
    name: house.name, signer: house.signer, memory, nonces, appraise: (question) => judge(question, policy), enrolment: () => enrolment.open(), clock, counters, log,
  });
  const keyDigest = keyDigestOf(house.signer);
  const status = (): object => ({ name: house.name, key: keyDigest, uptimeMs: Math.round(performance.now()), policy: policy.status(), chains: memory.chains, challengesOpen: nonces.open, counters: counters.snapshot() });
  const server = resources.use(await openServer({ host, port, certificate: house.certificate, key: house.key, service, status, clock, counters, log }));
  const reload = (): void => { policy.reload(); };
  process.on('SIGHUP', reload);
  resources.defer(() => { process.off('SIGHUP', reload); });
  onReady({ url: `https://${host.includes(':') ? `[${host}]` : host}:${server.address.port}`, keyDigest, policyDigest: toHex(policy.current().digest) });
  await whenAborted(signal);
}

/** An operator's word that a chain, and its device, may begin anew; beside a running verifier too. False where it is unknown. */
export async function forget(dir: string, chainId: Uint8Array): Promise<boolean> {
  const { memoryDir } = await openHouse(dir);
  await using store = await openKeyValueStore(memoryDir);
  return await new VerifierMemory(store).forget(chainId);
}

function judge({ file, nonce, clientKey, remembered, nowMicros }: Question, policyFile: PolicyFile): Finding {
  const { policy, digest } = policyFile.current();
  return { ...appraise({ file, nonce, clientKey, remembered, nowMicros, policy, policyDigest: digest }), leaseSeconds: policy.leaseSeconds };
}

/** Two enrollers, one per rule of the policy: which one opens is the policy's word at that moment, and an attempt ends with the one that it began with. */
class Desk implements Disposable {
  readonly #policy: PolicyFile;
  readonly #certified: Enroller;
  readonly #firstUse: Enroller;

  constructor(house: VerifierHouse, policy: PolicyFile) {
    this.#policy = policy;
    const enroller = (firstUse: 'accept' | 'refuse'): Enroller => new Enroller({
      name: house.name, clock, firstUse, sign: (enrolment) => signEnrolment(house.signer, enrolment),
      judge: (ek, certificates, during) => judgeEkCertificates(ek, certificates, ekAnchorsOf(policy.current().policy), during),
    });
    this.#certified = enroller('refuse');
    this.#firstUse = enroller('accept');
  }

  open(): EnrolmentDesk {
    const { enrol } = this.#policy.current().policy;
    if (enrol === 'nobody') throw new TenzroError('enrol.certificate', 'this verifier enrols nobody');
    return enrol === 'firstUse' ? this.#firstUse : this.#certified;
  }

  [Symbol.dispose](): void {
    this.#certified[Symbol.dispose]();
    this.#firstUse[Symbol.dispose]();
  }
}
