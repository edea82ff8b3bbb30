/** `tenzro fleet init|serve`: the controller that verifies, keeps and receipts the chains of a fleet. */
import { hostname } from 'node:os';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { runController } from '#runtime/controllerMain.ts';
import { buildHouse } from '#runtime/controller/house.ts';
import { allowsColor, type Io } from '../io.ts';

export interface DirFlags {
  readonly dir: string;
  readonly json?: boolean;
}

export async function fleetInit(io: Io, flags: DirFlags & { readonly name?: string }): Promise<void> {
  const { receiptKey } = await buildHouse(flags.dir, flags.name ?? hostname());
  if (flags.json) return io.json({ dir: flags.dir, receiptKey });
  for (const line of [
    `${printable(flags.dir)}: the controller's receipt key, and room for the chains.`, '',
    `1. Serve, on a broker that asks for users and TLS:  tenzro fleet serve --dir ${printable(flags.dir)} --broker mqtts://broker.example.org:8883 --ca broker-ca.pem`,
    '2. On each gateway, put this into its configuration:', '',
    'uplink:', '  url: mqtts://broker.example.org:8883', '  caFile: /etc/tenzro/broker-ca.pem', '  user: edge-1', '  passwordFile: /etc/tenzro/broker.password', `  receiptKey: "${receiptKey}"`,
  ]) io.line(line);
}

export interface ServeFlags extends DirFlags {
  readonly broker: string;
  readonly ca?: string;
  readonly user?: string;
  readonly passwordFile?: string;
}

export async function fleetServe(io: Io, { dir, broker, ca, user, passwordFile, json }: ServeFlags): Promise<void> {
  if (!/^mqtts?:\/\//.test(broker) || !URL.canParse(broker)) throw new TenzroError('cli.usage', `'${broker}' is not mqtts://host:port`);
  io.catchSignals();
  await runController({
    dir, broker, ...(ca === undefined ? {} : { caFile: ca }), ...(user === undefined ? {} : { user }), ...(passwordFile === undefined ? {} : { passwordFile }),
    logForm: io.isTTY ? 'people' : 'json', color: allowsColor(process.stderr.isTTY),
    onReady: (ready) => {
      if (json) io.json(ready);
      else io.line(`controller ready on ${printable(ready.broker)} (${ready.keyExchange}), ${ready.chains} chains, receipt key ${ready.receiptKey}`);
    },
  }, io.signal);
}
