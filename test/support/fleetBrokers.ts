/** The brokers that a fleet may have, each configured as docs/operate/brokers.md prints it: mosquitto, nats-server. The fleet's own one is in ownFleet.ts. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Context } from 'mocha';
import { join } from 'node:path';
import { writeBrokerIdentity } from './fleet.ts';
import { requirePeer } from './peers.ts';
import { acceptsTcp, freePort, Program, run } from './process.ts';
import { until } from './until.ts';

const PAGE = join(import.meta.dirname, '..', '..', 'docs', 'operate', 'brokers.md');
export const PASSWORD = 'a-fleet-password';
/** The controller, who looks on, who hands commands in, and two gateways. */
const USERS = ['fleet', 'anna', 'desk', 'edge-1', 'edge-2'] as const;
export type User = (typeof USERS)[number];

export interface OtherBroker {
  readonly url: string;
  readonly port: number;
  readonly caFile: string;
  readonly passwordFile: string;
  /** Starts it, also after a kill. */
  start(): Promise<Program>;
}

export const OTHER_BROKERS = {
  mosquitto: async (context: Context, dir: string): Promise<OtherBroker> => {
    const [program, passwd] = [requirePeer(context, 'mosquitto'), requirePeer(context, 'mosquitto_passwd')];
    const port = await freePort();
    mkdirSync(join(dir, 'db'));
    const isRoot = process.getuid?.() === 0; // it would become another user, who may not read here
    for (const name of ['mosquitto.conf', 'acl']) {
      const text = onPage(`/etc/mosquitto/fleet/${name}`).replaceAll('/etc/mosquitto/fleet', dir).replace('/var/lib/mosquitto', join(dir, 'db')).replace('listener 8883', `listener ${port} 127.0.0.1`);
      writePrivate(join(dir, name), name === 'acl' || !isRoot ? text : `${text}user root\n`);
    }
    for (const user of USERS) await mustRun(passwd, ['-b', ...(existsSync(join(dir, 'users')) ? [] : ['-c']), join(dir, 'users'), user, PASSWORD]);
    chmodSync(join(dir, 'users'), 0o600);
    return otherBroker(dir, port, () => new Program(program, ['-c', join(dir, 'mosquitto.conf')]));
  },
  'nats-server': async (context: Context, dir: string): Promise<OtherBroker> => {
    const program = requirePeer(context, 'nats-server');
    const port = await freePort();
    const text = onPage('/etc/nats/fleet/nats.conf').replaceAll('/etc/nats/fleet', dir).replace('/var/lib/nats/fleet', join(dir, 'store'))
      .replace('port: 4222', 'port: -1').replace('host: 0.0.0.0\n  port: 8883', `host: 127.0.0.1\n  port: ${port}`).replaceAll('CHANGE ME', PASSWORD);
    writePrivate(join(dir, 'nats.conf'), text);
    return otherBroker(dir, port, () => new Program(program, ['-c', join(dir, 'nats.conf')]));
  },
} as const;

function otherBroker(dir: string, port: number, begin: () => Program): OtherBroker {
  writeBrokerIdentity(dir);
  writePrivate(join(dir, 'password'), `${PASSWORD}\n`);
  return {
    url: `mqtts://localhost:${port}`, port, caFile: join(dir, 'broker.pem'), passwordFile: join(dir, 'password'),
    async start() {
      const program = begin();
      await until('the broker', () => acceptsTcp(port), { hopeless: () => (program.running ? undefined : program.output) });
      return program;
    },
  };
}

/** The block of the page that begins with the name of the file. */
function onPage(file: string): string {
  const [, text] = readFileSync(PAGE, 'utf8').split(`\`\`\`\n# ${file}\n`);
  if (text === undefined) throw new Error(`${PAGE} has no ${file}`);
  return text.slice(0, text.indexOf('```'));
}

const writePrivate = (path: string, text: string): void => { writeFileSync(path, text, { mode: 0o600 }); };

async function mustRun(file: string, args: readonly string[]): Promise<void> {
  const { code, output } = await run(file, args);
  if (code !== 0) throw new Error(output);
}
