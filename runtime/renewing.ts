/** The composition root of what keeps a fleet in force over the years: joins the renewal of certificates, what owners revoke, and their delivery to gateways that are away. */
import type { Operator } from '#runtime/core/command.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { ActBook } from '#runtime/controller/acts.ts';
import { INTERMEDIATE_RENEWAL_MS } from '#runtime/controller/authority.ts';
import { certificatesApi } from '#runtime/controller/certificatesApi.ts';
import type { Chains } from '#runtime/controller/chains.ts';
import type { ControllerPart, PartContext } from '#runtime/controller/part.ts';
import { Postings, type Posting } from '#runtime/controller/postings.ts';
import type { Register } from '#runtime/controller/register.ts';
import { Renewals } from '#runtime/controller/renewals.ts';
import { RevocationDesk, revocationApi } from '#runtime/controller/revocationDesk.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { revocationTopic, spkiDigestOf } from '#runtime/crypto/revocation.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';

export interface RenewingOptions {
  readonly register: Pick<Register, 'get' | 'all' | 'certified' | 'admits' | 'watch'>;
  readonly chains: Chains;
  readonly acts: ActBook;
  /** Of the fleet's folder. */
  readonly owners: () => readonly Operator[];
}

export interface Renewing {
  readonly part: ControllerPart;
  /** By JWK thumbprint. */
  isKeyRevoked(kid: string): boolean;
}

const LOOK_MS = 3_600_000;

/** Throws `ledger.corrupt`. */
export function openRenewing({ house: { authority }, store, clock, log }: PartContext, { register, chains, acts, owners }: RenewingOptions): Renewing {
  const isMember = (name: string): boolean => { const gateway = register.get(name); return gateway !== undefined && register.admits(Buffer.from(gateway.spki, 'hex')) === name; };
  const members = (): readonly string[] => register.all().map(({ name }) => name).filter(isMember);
  const [root] = derOfFile(Buffer.from(authority.rootPem), 1) ?? [];
  const renewals = new Renewals({ authority, register, chains, store, clock });
  const desk = new RevocationDesk({ store, acts, owners, authority: root ? spkiDigestOf(parseCertificate(root).spki) : '', onTaken: () => { deliver(members()); } });
  const postings = new Postings({ isMember, wanted, log });
  const deliver = (gateways: readonly string[]): void => { postings.post(gateways).catch((error: unknown) => { log.error({ error: messageOf(error) }, 'not delivered yet'); }); };
  function* wanted(gateway: string): Generator<Posting> {
    const pem = renewals.held(gateway);
    if (pem) yield { topic: `te/${gateway}/certificate`, payload: register.get(gateway)?.certificate ? pem : new Uint8Array(0) }; // around the key of now, or none
    const kids = owners().map(({ kid }) => kid); // after a rotation nobody takes the lists of the keys before
    for (const { kid, message } of desk.lists) yield { topic: revocationTopic(gateway, kid), payload: kids.includes(kid) ? message : new Uint8Array(0) };
  }
  const follow = async (signal: AbortSignal): Promise<void> => {
    using _ = register.watch((gateway) => { if (isMember(gateway)) deliver([gateway]); });
    for (let warnedDay = -1; !signal.aborted; await postings.rest(LOOK_MS, signal)) {
      const renewed = await renewals.renew(signal);
      if (renewed.length > 0) log.info({ gateways: renewed.length }, 'certificates renewed');
      const nowMs = clock.wallMicros() / 1_000;
      const day = Math.floor(nowMs / 86_400_000);
      if (authority.endsMs - nowMs < INTERMEDIATE_RENEWAL_MS && day !== warnedDay) log.warn({ ends: new Date(authority.endsMs).toISOString() }, 'the intermediate certificate of this fleet nears its end: stop the controller, tenzro fleet renew, start it');
      warnedDay = day;
      await postings.post(members());
    }
  };
  return { part: { users: [postings], api: { ...certificatesApi({ register, renewals }), ...revocationApi(desk) }, follow }, isKeyRevoked: (kid) => desk.isKeyRevoked(kid) };
}
