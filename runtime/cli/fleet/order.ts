/** `tenzro fleet release|rotate`: what an owner orders over the local network; either owner key will do. */
import { ClaimStore, type KeptClaim } from '#provisioning/claim/claimStore.ts';
import { orderGateway } from '#runtime/claimer.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { EXIT, type Io } from '../io.ts';
import { openOwnerKey, publicKeyIn, type OwnerFlags } from './owner.ts';

export interface OrderFlags extends OwnerFlags {
  readonly json?: boolean;
}

/** The gateway forgets its owner; the register is told when the gateway has said so, signed. */
export async function fleetRelease(io: Io, gateway: string, flags: OrderFlags): Promise<void> {
  io.catchSignals();
  const store = new ClaimStore(flags.dir);
  const kept = await store.ownerOf(gateway);
  const owner = await openOwnerKey(io, flags);
  const standing = await orderGateway({ kept, owner, change: { verb: 'release', ownerKeys: undefined }, signal: io.signal });
  await callController(flags.dir, 'gateways.released', { name: gateway, who: thumbprintOf(owner.publicKey) });
  await store.forget(kept.claimId);
  if (flags.json) io.json({ gateway, standing });
  else io.line(standing === 'none' ? `${printable(gateway)} was not ours any more` : `${printable(gateway)} is released: it has no owner, and shows a new code on demand (tenzro claim show)`);
}

/** `to`: private key files; their public halves lie beside them. Exit 1 where a gateway could not be reached: the same call again does the rest. */
export async function fleetRotate(io: Io, gateway: string | undefined, flags: OrderFlags & { readonly all?: boolean; readonly to: readonly string[] }): Promise<void> {
  io.catchSignals();
  const ownerKeys = flags.to.map((path) => publicKeyIn(`${path}.pub`));
  const [first, second] = ownerKeys;
  if (ownerKeys.length !== 2 || !first || !second || equalBytes(first, second)) throw new TenzroError('cli.usage', '--to takes two different key files, made by tenzro fleet keygen');
  if ((gateway === undefined) === (flags.all !== true)) throw new TenzroError('cli.usage', 'name a gateway, or --all');
  const store = new ClaimStore(flags.dir);
  const claims = gateway === undefined ? (await store.all()).filter(({ outcome }) => outcome === 'owned') : [await store.ownerOf(gateway)];
  const owner = await openOwnerKey(io, flags);
  const results: { readonly gateway: string; readonly standing: string }[] = [];
  for (const kept of claims) results.push({ gateway: kept.gateway, standing: await rotated(kept, () => orderGateway({ kept, owner, change: { verb: 'rotate', ownerKeys }, signal: io.signal })) });
  if (results.some(({ standing }) => standing !== 'rotated')) io.exitCode = EXIT.problem;
  if (flags.json) return io.json(results);
  for (const { gateway: name, standing } of results) io.line(`${printable(name).padEnd(16)} ${printable(standing)}`);
  if (io.exitCode === EXIT.ok) io.line(`Now the old keys order nothing. Put ${flags.to.map(printable).join(' and ')} (with their .pub) in the place of owner-1.key and owner-2.key of ${printable(flags.dir)}.`);
}

/** One that fails does not keep the others from their new keys. */
async function rotated({ gateway }: KeptClaim, order: () => Promise<string>): Promise<string> {
  try {
    const standing = await order();
    return standing === 'none' ? 'not ours any more' : standing;
  } catch (error) {
    if (!(error instanceof TenzroError) || error.class === 'bug') throw error;
    return `${error.code}: ${error.message.replace(gateway, 'it')}`;
  }
}
