/** The composition root of the uplink: joins the ledger, the fleet's broker and the settings. */
import { constants } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Counters, FleetLink, KeyValueStore, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { clientCertificate, clientKey } from '#runtime/crypto/clientIdentity.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { Hub } from '#runtime/link/hub.ts';
import { STATUS_DOWN, StatusVoice, statusTopic } from '#runtime/link/statusVoice.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import { Uplink } from '#runtime/uplink/follower.ts';

export interface UplinkingOptions {
  readonly settings: Settings;
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  readonly store: KeyValueStore;
  /** The identity's. Rejects with `identity.*` while the keys are locked. */
  readonly signer: () => Promise<Signer>;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** Undefined where no uplink is configured. */
export function openUplinking({ settings, reader, signer, ...ports }: UplinkingOptions): Uplink | undefined {
  if (settings.uplink.url === '') return undefined;
  return new Uplink({ ...ports, settings: settings.uplink, device: settings.node.name, source: reader, openLink: (filter, onMessage) => linkTo(settings, signer, { filter, receive: onMessage, log: ports.log }) });
}

/** `mqtt` is loaded only where there is an uplink. */
async function linkTo({ node: { name }, uplink: { url, caFile, user, passwordFile, certificate } }: Settings, openSigner: () => Promise<Signer>, { filter, receive, log }: Listening): Promise<FleetLink> {
  const ca = await authoritiesOf(caFile);
  const password = passwordFile === '' ? undefined : await passwordIn(passwordFile);
  const { openLink } = await import('#runtime/link/mqttLink.ts');
  const signer = certificate ? await openSigner() : undefined;
  const identity = signer && { cert: clientCertificate(signer, name), key: clientKey(signer) };
  try {
    return openLink({
      url, ca, clientId: `te-${name}-uplink`, ...(user === '' ? {} : { user }), ...(password === undefined ? {} : { password }), ...(identity ? { identity } : {}),
      will: { topic: statusTopic(name), payload: STATUS_DOWN }, hub: new Hub([{ filters: [filter], receive }, new StatusVoice({ gateway: name, statement: () => ({}), log })], log),
    });
  } finally {
    identity?.key.fill(0);
  }
}

interface Listening {
  readonly filter: string;
  readonly receive: (topic: string, payload: Uint8Array) => void;
  readonly log: Log;
}

/** PEM of a file, or the system's authorities. Rejects with `config.unreadable`. */
export async function authoritiesOf(caFile: string): Promise<string | string[]> {
  if (caFile === '') return process.getBuiltinModule('node:tls').getCACertificates('system');
  try {
    return await readFile(caFile, 'utf8');
  } catch (cause) {
    throw new TenzroError('config.unreadable', `cannot read ${caFile}: ${messageOf(cause)}`, { cause });
  }
}

const OTHERS = 0o077;

/** First line of a file that nobody else can read. Rejects with `link.credentials`. */
export async function passwordIn(path: string): Promise<string> {
  try {
    await using file = await open(path, constants.O_RDONLY);
    const { mode } = await file.stat();
    if ((mode & OTHERS) !== 0) throw new TenzroError('link.credentials', `${path} has mode ${(mode & 0o777).toString(8)}, not 600`);
    const [line = ''] = (await file.readFile('utf8')).split(/\r?\n/);
    return line;
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('link.credentials', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}
