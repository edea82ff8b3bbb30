/**
 * Which gateways a group means, as a query over what they report: `id ^= 'north-' and health.version < '1.4.0'`. Plain data; it can read and
 * compare, and nothing else. A test of what a gateway does not report is false. Grammar: docs/reference/rollouts.md.
 */
import { isJsonObject, type Json } from '#runtime/core/json.ts';
import { compareVersions, parseVersion, type Version } from './version.ts';

export type Literal = string | number | boolean;
export const ORDERS = ['<', '<=', '>', '>='] as const;
export type Order = (typeof ORDERS)[number];

export type Query =
  | { readonly kind: 'and' | 'or'; readonly left: Query; readonly right: Query }
  | { readonly kind: 'not'; readonly inner: Query }
  | { readonly kind: 'exists'; readonly path: readonly string[] }
  | { readonly kind: 'in'; readonly path: readonly string[]; readonly literals: readonly Literal[] }
  | { readonly kind: 'prefix'; readonly path: readonly string[]; readonly text: string }
  | { readonly kind: 'version'; readonly path: readonly string[]; readonly order: Order; readonly version: Version }
  | { readonly kind: 'number'; readonly path: readonly string[]; readonly order: Order; readonly number: number };

/** What is known of a gateway: `id`, and whatever it reports by name (`twin`, `health`). */
export type GatewayView = { readonly id: string } & { readonly [name: string]: Json };

export function matches(query: Query, view: GatewayView): boolean {
  switch (query.kind) {
    case 'and': return matches(query.left, view) && matches(query.right, view);
    case 'or': return matches(query.left, view) || matches(query.right, view);
    case 'not': return !matches(query.inner, view);
    case 'exists': return valueAt(view, query.path) !== undefined;
    case 'in': return query.literals.some((literal) => literal === valueAt(view, query.path));
    case 'prefix': return startsWith(valueAt(view, query.path), query.text);
    case 'version': return isVersionIn(valueAt(view, query.path), query.order, query.version);
    case 'number': return isNumberIn(valueAt(view, query.path), query.order, query.number);
  }
}

/** Own members only: what JavaScript gives every object is not reported by anybody. */
function valueAt(view: GatewayView, path: readonly string[]): Json | undefined {
  let value: Json | undefined = view;
  for (const name of path) {
    if (!isJsonObject(value) || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}

const startsWith = (value: Json | undefined, text: string): boolean => typeof value === 'string' && value.startsWith(text);
const isNumberIn = (value: Json | undefined, order: Order, number: number): boolean => typeof value === 'number' && isIn(Math.sign(value - number), order);

function isVersionIn(value: Json | undefined, order: Order, version: Version): boolean {
  const given = typeof value === 'string' ? parseVersion(value) : undefined;
  return given !== undefined && isIn(compareVersions(given, version), order);
}

function isIn(sign: number, order: Order): boolean {
  switch (order) {
    case '<': return sign < 0;
    case '<=': return sign <= 0;
    case '>': return sign > 0;
    case '>=': return sign >= 0;
  }
}
