/** `tenzro fleet attested`: how a command ended by the gateway's chain, which its signed blocks cover; what a broker says of it is only a word. */
import { callController } from '#runtime/controller/apiClient.ts';
import type { Chains } from '#runtime/controller/chains.ts';
import { withChains } from '#runtime/controllerMain.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { hasEnded } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { KIND } from '#runtime/core/types.ts';
import { decodeCommandEntry, type ResultBody } from '#runtime/fleet/entries.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { EXIT, type Io } from '../io.ts';

interface Found {
  readonly chain: string;
  readonly index: number;
  readonly wallMicros: number;
  readonly result: ResultBody;
}

/** First bytes of an entry of that kind (entry-format.md): kinds that this version does not know are passed over. */
const RESULT_HEAD = Buffer.of(0xa7, 1, 1, 2, KIND.result, 3);

/** Exit 1 where the chain holds no end of it yet, or another one than the desk was told. */
export async function fleetAttested(io: Io, gateway: string, type: string, id: string, { dir, json }: { readonly dir: string; readonly json?: boolean }): Promise<void> {
  const told = await stateAtDesk(dir, { gateway, type, id });
  const found = await withChains(dir, (chains) => endOf(chains, gateway, type, id));
  const agrees = found !== undefined && (told === undefined || told === found.result.state);
  if (!agrees) io.exitCode = EXIT.problem;
  if (json) return io.json({ told: told ?? null, attested: found ? { chain: found.chain, entry: found.index, at: isoOfMicros(found.wallMicros), state: found.result.state, reason: found.result.reason ?? null } : null, agrees });
  if (!found) return io.line(`no block that came from ${printable(gateway)} covers an end of ${type}/${id} yet; ${told === undefined ? 'the desk does not know it' : `the desk was told: ${told}`}`);
  const { result: { state, reason = '' }, index, chain, wallMicros } = found;
  io.line(`${state}${reason === '' ? '' : ` (${printable(reason)})`}, entry ${index} of chain ${chain.slice(0, 16)}…, ${isoOfMicros(wallMicros)}`);
  if (!agrees) io.line(io.paint(`the desk was told: ${told ?? ''}. Somebody at the broker lies`, 'red'));
}

/** Undefined where no controller serves, or it does not know the command. */
async function stateAtDesk(dir: string, name: { readonly gateway: string; readonly type: string; readonly id: string }): Promise<string | undefined> {
  try {
    const { state } = await callController(dir, 'commands.show', name);
    return typeof state === 'string' ? state : undefined;
  } catch (error) {
    if (error instanceof TenzroError && (error.code === 'controller.offline' || error.code === 'controller.request')) return undefined;
    throw error;
  }
}

/** The last that the gateway's chains say, of what verified blocks cover. */
function endOf(chains: Chains, gateway: string, type: string, id: string): Found | undefined {
  let found: Found | undefined;
  for (const [chain, record] of chains.all()) {
    if (record.gateway !== gateway) continue;
    let index = -1;
    for (const leaf of chains.leaves(chain)) {
      if (++index >= (record.head?.treeSize ?? 0)) break;
      if (!('entry' in leaf) || !RESULT_HEAD.equals(leaf.entry.subarray(0, RESULT_HEAD.length))) continue;
      const entry = decodeEntry(leaf.entry);
      const decoded = decodeCommandEntry(entry);
      if (decoded?.kind === 'result' && decoded.body.type === type && decoded.body.id === id && hasEnded(decoded.body.state)) found = { chain, index, wallMicros: entry.wallMicros, result: decoded.body };
    }
  }
  return found;
}
