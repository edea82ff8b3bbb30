/**
 * Who may publish and subscribe where: lists of topic filters, `%c` for the client id, `%u` for the user; a filter behind `!` takes
 * away again. A subscription is granted when one allowed filter covers it whole; what is taken away is withheld at delivery too.
 */
import type { UserSettings } from '#runtime/core/settings.ts';
import { matchesFilter } from '#runtime/core/topic.ts';

export type PermissionLists = Pick<UserSettings, 'publish' | 'subscribe'>;

/** Loopback clients without a name, unless the configuration has a user `anonymous`. `#` does not match `$`-topics. */
export const ANONYMOUS_PERMISSIONS: PermissionLists = { publish: ['#'], subscribe: ['#', '$SYS/#'] };

export class Permissions {
  readonly #publish: Rules;
  readonly #subscribe: Rules;

  constructor(lists: PermissionLists, who: { clientId: string; user: string | undefined }) {
    this.#publish = new Rules(lists.publish, who);
    this.#subscribe = new Rules(lists.subscribe, who);
  }

  mayPublish(topic: string): boolean { return this.#publish.allows(topic); }
  maySubscribe(filter: string): boolean { return this.#subscribe.covers(filter); }
  mayReceive(topic: string): boolean { return this.#subscribe.allows(topic); }
}

class Rules {
  readonly #allow: readonly string[];
  readonly #deny: readonly string[];
  readonly #everything: boolean;

  constructor(filters: readonly string[], who: { clientId: string; user: string | undefined }) {
    const filled = filters.map((filter) => fill(filter, who)).filter((filter) => filter !== undefined);
    this.#allow = filled.filter((filter) => !filter.startsWith('!'));
    this.#deny = filled.filter((filter) => filter.startsWith('!')).map((filter) => filter.slice(1));
    this.#everything = this.#allow.includes('#') && this.#deny.length === 0;
  }

  allows(topic: string): boolean {
    if (this.#everything && !topic.startsWith('$')) return true;
    return this.#allow.some((filter) => matchesFilter(filter, topic)) && !this.#deny.some((filter) => matchesFilter(filter, topic));
  }

  covers(filter: string): boolean {
    return this.#allow.some((wide) => filterCovers(wide, filter)) && !this.#deny.some((wide) => filterCovers(wide, filter));
  }
}

/** Undefined when the name would smuggle a level or a wildcard into the filter: such a rule then grants nothing. */
function fill(filter: string, who: { clientId: string; user: string | undefined }): string | undefined {
  let filled = filter;
  for (const [placeholder, name] of [['%c', who.clientId], ['%u', who.user]] as const) {
    if (!filled.includes(placeholder)) continue;
    if (name === undefined || name === '' || /[+#/%]/.test(name)) return undefined;
    filled = filled.replaceAll(placeholder, name);
  }
  return filled;
}

/** True when every topic that `narrow` matches is matched by `wide` too. */
export function filterCovers(wide: string, narrow: string): boolean {
  const outer = wide.split('/');
  const inner = narrow.split('/');
  if (narrow.startsWith('$') && (outer[0] === '#' || outer[0] === '+')) return false;
  for (const [at, level] of outer.entries()) {
    if (level === '#') return true;
    const other = inner[at];
    if (other === undefined || other === '#' || (level !== '+' && level !== other)) return false;
  }
  return outer.length === inner.length;
}
