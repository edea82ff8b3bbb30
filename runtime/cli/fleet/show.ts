/** `tenzro fleet claim --show`: the operator's code, for a gateway that has a camera. */
import { networkInterfaces } from 'node:os';
import { encodeFleetCode, newFleetCode, PLACES_MAX, type FleetPlace } from '#provisioning/claim/fleetCode.ts';
import { hostAndPort, parseAddress } from '#provisioning/claim/lan/dial.ts';
import { modulesOf, pngOf, terminalLines } from '#provisioning/claim/qr.ts';
import { SHOWN_LIFETIME_MS } from '#provisioning/claim/waiting.ts';
import type { ClaimerOptions, ClaimWishes } from '#runtime/claimer.ts';
import { printable } from '#runtime/core/printable.ts';
import { welcomeGateway } from '#runtime/welcoming.ts';
import { writeNew } from '../claim.ts';
import type { Io } from '../io.ts';

const PNG_SCALE = 8;
const EVERYWHERE = '0.0.0.0';

export interface ShowFleetFlags {
  readonly listen?: string;
  readonly png?: string;
  readonly json?: boolean;
}

/** Resolves with the gateway's name. */
export async function showAndWait(io: Io, options: ClaimerOptions, wishes: ClaimWishes, { listen, png, json }: ShowFleetFlags): Promise<string> {
  const { host, port } = listen === undefined ? { host: EVERYWHERE, port: 0 } : parseAddress(listen, 0);
  const { secret } = newFleetCode([]);
  try {
    return await welcomeGateway(options, wishes, {
      host, port, secret, lifetimeMs: SHOWN_LIFETIME_MS,
      onOpen: (opened) => { tell(io, encodeFleetCode({ secret, places: placesOf(host, opened) }), placesOf(host, opened), { png, json }); },
    }, io.signal);
  } finally {
    secret.fill(0);
  }
}

function tell(io: Io, text: string, places: readonly FleetPlace[], { png, json }: { readonly png: string | undefined; readonly json: boolean | undefined }): void {
  if (png !== undefined) writeNew(png, pngOf(modulesOf(text), PNG_SCALE));
  if (json) return io.json({ code: text, places: [...places], expiresInSeconds: SHOWN_LIFETIME_MS / 1_000, file: png ?? null });
  if (png !== undefined) io.line(`${printable(png)}: the code as a picture`);
  else for (const line of terminalLines(modulesOf(text), io.color ? 'colour' : 'dark')) io.line(line);
  io.line(text);
  io.line(`works once, within ${SHOWN_LIFETIME_MS / 60_000} minutes, for a gateway that reaches ${places.map(({ host, port }) => hostAndPort(host, port)).join(' or ')}`);
}

/** IPv4 addresses of this machine, those of networks first. */
function placesOf(host: string, port: number): readonly FleetPlace[] {
  if (host !== EVERYWHERE) return [{ host, port }];
  const all = Object.values(networkInterfaces()).flat().flatMap((entry) => (entry?.family === 'IPv4' ? [entry] : []));
  return all.toSorted((a, b) => Number(a.internal) - Number(b.internal)).slice(0, PLACES_MAX).map(({ address }) => ({ host: address, port }));
}
