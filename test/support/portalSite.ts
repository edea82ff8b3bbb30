/** The page of the access point on loopback, as phones and strangers find it. */
import { openPage, type PortalPage } from '#provisioning/portal/server.ts';
import type { FoundNetwork, HandedNetwork } from '#provisioning/portal/form.ts';
import type { Outcome } from '#provisioning/portal/portal.ts';
import { run, type Ran } from './process.ts';

export const IN_REACH: readonly FoundNetwork[] = [
  { ssid: Buffer.from('hall 3'), signalDbm: -48, security: 'passphrase' }, { ssid: Buffer.from('Gäste "West" <1>'), signalDbm: -63, security: 'open' },
  { ssid: Buffer.from('office'), signalDbm: -70, security: 'other' }, { ssid: Buffer.from([0xff, 0, 0x22]), signalDbm: -82, security: 'passphrase' },
];

export class PortalSite implements AsyncDisposable {
  readonly handed: HandedNetwork[] = [];
  readonly refused: string[] = [];
  readonly #page: PortalPage;

  static async open({ last, takes = true }: { readonly last?: Outcome; readonly takes?: boolean } = {}): Promise<PortalSite> {
    const seat: { site?: PortalSite } = {};
    const page = await openPage({
      host: '127.0.0.1', port: 0, title: 'Tenzro-ABC234', nowMs: () => performance.now(), view: () => ({ networks: IN_REACH, last }), refused: (reason) => { seat.site?.refused.push(reason); },
      handed: (network) => {
        seat.site?.handed.push(network);
        return takes;
      },
    });
    return (seat.site = new PortalSite(page));
  }

  private constructor(page: PortalPage) {
    this.#page = page;
  }

  get port(): number { return this.#page.port; }
  get seenMs(): number | undefined { return this.#page.seenMs; }
  get url(): string { return `http://127.0.0.1:${this.port}`; }

  /** curl's output: what it got, and behind it the status on a line of its own. */
  async curl(path: string, ...args: readonly string[]): Promise<{ readonly status: number; readonly text: string; readonly ran: Ran }> {
    const ran = await run('curl', ['-sS', '--max-time', '20', '-w', '\n%{http_code}', ...args, `${this.url}${path}`]);
    const end = ran.stdout.lastIndexOf('\n');
    return { status: Number(ran.stdout.slice(end + 1)), text: ran.stdout.slice(0, end), ran };
  }

  async token(): Promise<string> {
    const { text } = await this.curl('/');
    return /name="token" value="([^"]+)"/.exec(text)?.[1] ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#page[Symbol.asyncDispose](); }
}
