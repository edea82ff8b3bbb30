/** `tenzro fleet release|rotate`: what an owner orders over the local network; either owner key will do. */
import { ClaimStore, type KeptClaim } from '#provisioning/claim/claimStore.ts';
import { orderGateway } from '#runtime/claimer.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { filesOf } from '#runtime/controller/house.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { isJsonObject, type Json } from '#runtime/core/json.ts';
import { printable } from '#runtime/core/printable.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { EXIT, type Io } from '../io.ts';
import { openOwnerKey, publicKeyIn, type OwnerFlags } from './owner.ts';

export interface OrderFlags extends OwnerFlags {
  readonly json?: boolean;
}

/** The gateway forgets its owner; the register is told when the gateway has said so, signed. */
export async function fleetRelease(io: Io, gateway: string, flags: OrderFlags & { readonly address?: string }): Promise<void> {
  io.catchSignals();
  const store = new ClaimStore(flags.dir);
  const { address, ...owned } = await store.ownerOf(gateway);
  const kept = { ...owned, address: flags.address ?? address };
  const owner = await openOwnerKey(io, flags);
  const standing = await orderGateway({ kept, owner, change: { verb: 'release', ownerKeys: undefined }, signal: io.signal });
  await callController(flags.dir, 'gateways.released', { name: gateway, who: thumbprintOf(owner.publicKey) });
  await store.forget(kept.claimId);
  if (flags.json) io.json({ gateway, standing });
  else io.line(standing === 'none' ? `${printable(gateway)} was not ours any more` : `${printable(gateway)} is released: it has no owner, and shows a new code on demand (tenzro claim show)`);
}

export interface RotateFlags extends OrderFlags {
  readonly all?: boolean;
  readonly to: readonly string[];
}

/** `to`: private key files; their public halves lie beside them. Exit 1 where a gateway could not be reached: the same call again does the rest. */
export async function fleetRotate(io: Io, gateway: string | undefined, flags: RotateFlags): Promise<void> {
  io.catchSignals();
  const ownerKeys = flags.to.map((path) => publicKeyIn(`${path}.pub`));
  const [first, second] = ownerKeys;
  if (ownerKeys.length !== 2 || !first || !second || equalBytes(first, second)) throw new TenzroError('cli.usage', '--to takes two different key files, made by tenzro fleet keygen');
  if ((gateway === undefined) === (flags.all !== true)) throw new TenzroError('cli.usage', 'name a gateway, or --all');
  const store = new ClaimStore(flags.dir);
  const claims = gateway === undefined ? (await store.all()).filter(({ outcome }) => outcome === 'owned') : [await store.ownerOf(gateway)];
  const owner = await openOwnerKey(io, flags);
  const [kids, who] = [ownerKeys.map(thumbprintOf), thumbprintOf(owner.publicKey)];
  const before = await namesWithout(flags.dir, kids);
  const results: { readonly gateway: string; readonly standing: string }[] = [];
  for (const kept of claims) {
    const standing = before.has(kept.gateway) ? await rotated(kept, async () => {
      const said = await orderGateway({ kept, owner, change: { verb: 'rotate', ownerKeys }, signal: io.signal });
      if (said === 'rotated') await callController(flags.dir, 'gateways.rotated', { name: kept.gateway, ownerKeys: ownerKeys.map((key) => Buffer.from(key).toString('base64')), who });
      return said;
    }) : 'rotated';
    results.push({ gateway: kept.gateway, standing });
  }
  const left = [...await namesWithout(flags.dir, kids)];
  if (results.some(({ standing }) => standing !== 'rotated')) io.exitCode = EXIT.problem;
  if (flags.json) return io.json({ gateways: results, left });
  for (const { gateway: name, standing } of results) io.line(`${printable(name).padEnd(16)} ${printable(standing)}`);
  for (const line of left.length > 0 ? [`Keep the keys of before: ${left.map(printable).join(', ')} ${left.length === 1 ? 'obeys' : 'obey'} them still.`] : placing(flags)) io.line(line);
}

/** Gateways in the register that obey other keys than these. */
async function namesWithout(dir: string, kids: readonly string[]): Promise<ReadonlySet<string>> {
  const { gateways } = await callController(dir, 'gateways.list', {});
  const known = Array.isArray(gateways) ? gateways.filter(isJsonObject) : [];
  return new Set(known.flatMap(({ name, state, ownerKeys }) => (typeof name === 'string' && (state === 'claimed' || state === 'begun') && !isSame(ownerKeys, kids) ? [name] : [])));
}

const isSame = (keys: Json | undefined, kids: readonly string[]): boolean => Array.isArray(keys) && keys.length === kids.length && kids.every((kid) => keys.includes(kid));

/** Only the public half of the second has to be in the folder; a key is never moved by itself, for it may lie on a stick. */
function placing({ dir, to: [first = '', second = ''] }: RotateFlags): readonly string[] {
  const { owners } = filesOf(dir);
  const move = (from: string, to: string): string => `  mv --backup=numbered ${shellWord(from)} ${shellWord(to)}`;
  return [
    'Nobody obeys the keys of before any more. These commands put the new ones in their place; carry the second elsewhere:',
    move(first, owners[0]), move(`${first}.pub`, `${owners[0]}.pub`), move(`${second}.pub`, `${owners[1]}.pub`),
  ];
}

const shellWord = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`);

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
