/** One YAML 1.2 document with the place of every key; the only file that imports `yaml`. */
import { createRequire } from 'node:module';
import type { Node } from 'yaml';

/** A step into the document: a key of a map or an index of a list. */
type Step = string | number;
export type Path = readonly Step[];

/** Both count from 1, as editors do. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface ConfigDocument {
  /** Plain data; keys whose value is empty (`mqtt:` with nothing under it) are left out, as if they were not there. */
  readonly value: unknown;
  /** What YAML itself found wrong; `value` is then undefined. */
  readonly faults: readonly { readonly message: string; readonly place: Place }[];
  has(path: Path): boolean;
  /** Where the key (or list item) stands; the nearest enclosing one that exists when it does not. */
  placeOfKey(path: Path): Place;
}

const require = createRequire(import.meta.url);
/** 72 modules, 8 MB: loaded only where there is something to parse. */
const loadYaml = (): typeof import('yaml') => require('yaml') as typeof import('yaml');

const EMPTY: ConfigDocument = { value: undefined, faults: [], has: () => false, placeOfKey: () => ({ line: 1, column: 1 }) };

export function parseDocumentText(text: string): ConfigDocument {
  if (text === '') return EMPTY;
  const tooDeep = nestingBeyond(text, NESTING_MAX);
  if (tooDeep) return { ...EMPTY, faults: [{ message: `more than ${NESTING_MAX} levels, one in another`, place: tooDeep }] };
  const { LineCounter, parseDocument } = loadYaml();
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true, logLevel: 'error' });
  const placeOf = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const nodeAt = (path: Path): { readonly start: number; readonly depth: number; readonly filled: boolean } => {
    let node: unknown = document.contents;
    let start = 0;
    for (const [depth, step] of path.entries()) {
      const next = childOf(node, step);
      if (next === undefined) return { start, depth, filled: false };
      start = next.start;
      node = next.value;
    }
    return { start, depth: path.length, filled: !isEmpty(node) };
  };
  const faults = document.errors.map((error) => ({ message: error.message, place: placeOf(error.pos[0]) }));
  return {
    value: faults.length > 0 ? undefined : withoutEmpty(document.toJS({ maxAliasCount: 100 }) as unknown),
    faults,
    has: (path) => nodeAt(path).filled,
    placeOfKey: (path) => placeOf(nodeAt(path).start),
  };
}

/** The parser takes seconds for thousands of levels, and ours are six. */
const NESTING_MAX = 64;
/** Levels that one line opens: brackets, and entries within entries. Brackets in quotes count too; nobody writes so many. */
const OPENERS = /[[{]|[-?:] +(?=[-?:] )/g;

/** Where the text, read line by line, stands deeper than so many brackets or entries. */
function nestingBeyond(text: string, max: number): Place | undefined {
  let brackets = 0;
  for (const [at, line] of text.split('\n').entries()) {
    const openers = line.match(OPENERS)?.length ?? 0;
    if (brackets + openers > max) return { line: at + 1, column: 1 };
    for (const char of line) brackets += char === '[' || char === '{' ? 1 : char === ']' || char === '}' ? -1 : 0;
    brackets = Math.max(0, brackets);
  }
  return undefined;
}

/** The text with other values in sections at its top, undefined to take one out; the rest stays as it is written. The text MUST be without faults. */
export function withSections(text: string, sections: ReadonlyMap<string, unknown>): string {
  const document = loadYaml().parseDocument(text, { stringKeys: true });
  for (const [name, value] of sections) {
    if (value === undefined) document.delete(name);
    else document.set(name, document.createNode(value));
  }
  return document.toString({ lineWidth: 0 });
}

function childOf(node: unknown, step: Step): { readonly start: number; readonly value: unknown } | undefined {
  const { isMap, isScalar, isSeq } = loadYaml();
  if (isMap(node)) {
    const pair = node.items.find((item) => isScalar(item.key) && item.key.value === step);
    if (pair !== undefined) return { start: startOf(pair.key as Node), value: pair.value };
  }
  if (isSeq(node) && typeof step === 'number') {
    const item = node.items[step];
    if (item !== undefined) return { start: startOf(item as Node), value: item };
  }
  return undefined;
}

const startOf = (node: Node): number => node.range?.[0] ?? 0;
const isEmpty = (node: unknown): boolean => {
  const { isScalar } = loadYaml();
  return node == null || (isScalar(node) && node.value === null);
};

function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmpty);
  if (typeof value !== 'object' || value === null) return value ?? undefined;
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== null).map(([key, inner]) => [key, withoutEmpty(inner)]));
}
