/** The page of the access point: one file, without scripts, for a phone. Everything that came from outside is escaped. Pure. */
import { createHash } from 'node:crypto';
import { toHex } from '#runtime/core/bytes.ts';
import { FIELD, nameOf, type FoundNetwork } from './form.ts';
import type { Outcome } from './portal.ts';

export interface PageView {
  /** Of the access point, and so of the gateway. */
  readonly title: string;
  readonly networks: readonly FoundNetwork[];
  readonly last: Outcome | undefined;
  readonly token: string;
  /** What has to be corrected. */
  readonly problem?: string;
}

/** Names of the networks that are shown, with what they are reached by. */
const SHOWN_MAX = 24;
const STYLE = `:root{color-scheme:light dark}*{box-sizing:border-box}
body{font:1.0625rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:34rem;padding:1rem;background:#fff;color:#16202a}
h1{font-size:1.375rem;line-height:1.25;margin:.25rem 0 1rem}fieldset{border:1px solid #77828c;border-radius:.5rem;margin:0 0 1.25rem;padding:.25rem .75rem}
legend{font-weight:600;padding:0 .375rem}.n{align-items:center;border-top:1px solid #d4dade;display:flex;gap:.75rem;min-height:3rem;overflow-wrap:anywhere}.n:first-of-type{border-top:0}
.n small{color:#4b5761;margin-left:auto;text-align:right;flex:none}input[type=radio]{flex:none;height:1.375rem;width:1.375rem}.f{display:block;font-weight:600;margin:0 0 1.25rem}
.f input{border:1px solid #77828c;border-radius:.5rem;display:block;font:inherit;margin-top:.25rem;min-height:3rem;padding:0 .75rem;width:100%;background:inherit;color:inherit}
.f span,.w{font-weight:400}button{background:#0b57b0;border:0;border-radius:.5rem;color:#fff;font:inherit;font-weight:600;min-height:3.25rem;width:100%}
.w{border-left:.25rem solid #0b57b0;margin:0 0 1.25rem;padding:.25rem .75rem}.e{border-color:#b3261e}:focus-visible{outline:3px solid #e08a00;outline-offset:2px}
@media(prefers-color-scheme:dark){body{background:#10161c;color:#e8edf1}.n small{color:#aab5be}.n{border-color:#36414b}}`;
/** CSP level 3: the one style sheet by its hash; no script, no frame, nothing from elsewhere. */
export const CONTENT_POLICY = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`;

const ENTITY: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\'': '&#39;' };
const escaped = (text: string): string => text.replace(/[&<>"']/g, (character) => ENTITY[character] ?? '');

export function formPage({ title, networks, last, token, problem }: PageView): string {
  return pageOf(title, `
<h1>${escaped(title)}: give this gateway a network</h1>
${problem === undefined ? '' : `<p class="w e" role="alert">${escaped(problem)}</p>`}${last && problem === undefined ? outcome(last) : ''}
<form method="post" action="/join" autocomplete="off">
<input type="hidden" name="${FIELD.token}" value="${escaped(token)}">
<fieldset><legend>Wi-Fi networks in reach</legend>
${networks.slice(0, SHOWN_MAX).map(row).join('\n')}
${networks.length === 0 ? '<p>None was found. Type the name of one.</p>' : ''}</fieldset>
<label class="f">Another network <span>(its name; goes before the choice above)</span><input name="${FIELD.name}" maxlength="32" autocapitalize="none" autocorrect="off" spellcheck="false"></label>
<label class="f">Passphrase <span>(empty for an open network)</span><input type="password" name="${FIELD.passphrase}" maxlength="63" autocomplete="off"></label>
<p class="w"><strong>Read this first.</strong> There is one radio: while the network is tried, up to a minute and a half, <strong>this access point is gone</strong> and your phone leaves it. The result is on the gateway's screen. If it did not work, ${escaped(title)} comes back: join it again, and this page says why.</p>
<button>Try this network</button>
</form>`);
}

/** The answer to a form that was taken. */
export function takenPage(title: string, network: string): string {
  return pageOf(title, `
<h1>Trying ${escaped(network)}</h1>
<p class="w">This access point goes away now. Watch the gateway's screen: it shows the address of the gateway when the network works.</p>
<p>If ${escaped(title)} is there again in two minutes, it did not work: join it, and open <a href="/">this page</a> again. It says why.</p>`);
}

export function plainPage(title: string, text: string): string {
  return pageOf(title, `
<h1>${escaped(title)}</h1>
<p class="w e" role="alert">${escaped(text)}</p>
<p><a href="/">Back to the form</a></p>`);
}

const outcome = ({ network, reason }: Outcome): string => (reason === undefined ? `<p class="w" role="status">${escaped(network)} worked, and is kept. It is not in reach now.</p>`
  : `<p class="w e" role="alert"><strong>${escaped(network)} did not work</strong>: ${escaped(reason)}.</p>`);

function row({ ssid, signalDbm, security }: FoundNetwork): string {
  const kind = security === 'open' ? 'open' : security === 'passphrase' ? 'passphrase' : 'not possible here';
  return `<label class="n"><input type="radio" name="${FIELD.network}" value="${toHex(ssid)}"${security === 'other' ? ' disabled' : ''}><span>${escaped(nameOf(ssid))}</span><small>${strength(signalDbm)}<br>${kind}</small></label>`;
}

/** dBm at the receiver: a good link has more than -60, below -75 it breaks. */
const strength = (dbm: number): string => (dbm > -60 ? 'strong' : dbm > -75 ? 'medium' : 'weak');

const pageOf = (title: string, body: string): string =>
  `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${escaped(title)}</title><style>${STYLE}</style></head><body><main>${body}\n</main></body></html>\n`;
