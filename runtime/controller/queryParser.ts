/** Text to query, by recursive descent. Every error names the column where the text stops making sense. */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { ORDERS, type Literal, type Order, type Query } from './query.ts';
import { parseVersion } from './version.ts';

/** `fleet.query`. */
export class QueryError extends TenzroError {
  /** Counts from 1, in characters as JavaScript counts them. */
  readonly column: number;

  constructor(why: string, column: number) {
    super('fleet.query', `query, column ${column}: ${why}`);
    this.column = column;
  }
}

interface Token {
  readonly kind: 'word' | 'text' | 'number' | 'sign' | 'end';
  /** Of a text: without its quotes. */
  readonly text: string;
  readonly column: number;
}

const TOKEN = /\s*(?:(?<word>[A-Za-z_][\w-]*(?:\.[\w-]+)*)|'(?<text>[^']*)'|(?<number>-?\d+(?:\.\d+)?)(?![\w.])|(?<sign>\^=|!=|<=|>=|[=<>()[\],]))/y;
const KEYWORDS = new Set(['and', 'or', 'not', 'in', 'exists', 'true', 'false']);

/** Throws QueryError. */
export function parseQuery(text: string): Query {
  if (text.length > LIMITS.queryCharactersMax) throw new QueryError(`longer than ${LIMITS.queryCharactersMax} characters`, LIMITS.queryCharactersMax + 1);
  const parser = new Parser(tokensOf(text));
  const query = parser.either(1);
  parser.end();
  return query;
}

function tokensOf(text: string): readonly Token[] {
  const tokens: Token[] = [];
  const length = text.trimEnd().length;
  for (let at = 0; at < length;) {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(text);
    const start = at + (/^\s*/.exec(text.slice(at))?.[0].length ?? 0);
    if (!found) throw new QueryError(text[start] === "'" ? 'this quote is not closed' : `'${text[start] ?? ''}' begins nothing that a query knows`, start + 1);
    for (const kind of ['word', 'text', 'number', 'sign'] as const) {
      const value = found.groups?.[kind];
      if (value !== undefined) tokens.push({ kind, text: value, column: start + 1 });
    }
    at = TOKEN.lastIndex;
  }
  return [...tokens, { kind: 'end', text: '', column: length + 1 }];
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #terms = 0;

  constructor(tokens: readonly Token[]) { this.#tokens = tokens; }

  /** `both {or both}` */
  either(depth: number): Query {
    let left = this.#both(depth);
    while (this.#takes('word', 'or')) left = { kind: 'or', left, right: this.#both(depth) };
    return left;
  }

  end(): void {
    if (this.#token.kind !== 'end') throw this.#wrong("'and', 'or' or the end");
  }

  /** `one {and one}` */
  #both(depth: number): Query {
    let left = this.#one(depth);
    while (this.#takes('word', 'and')) left = { kind: 'and', left, right: this.#one(depth) };
    return left;
  }

  /** `not one`, `(either)`, or a test */
  #one(depth: number): Query {
    if (depth > LIMITS.queryDepthMax) throw new QueryError(`nests deeper than ${LIMITS.queryDepthMax} levels`, this.#token.column);
    if (this.#takes('word', 'not')) return { kind: 'not', inner: this.#one(depth + 1) };
    if (!this.#takes('sign', '(')) return this.#test();
    const inner = this.either(depth + 1);
    this.#expect(')');
    return inner;
  }

  #test(): Query {
    this.#count();
    if (this.#takes('word', 'exists')) return { kind: 'exists', path: this.#path() };
    const path = this.#path();
    if (this.#takes('word', 'in')) return { kind: 'in', path, literals: this.#list() };
    if (this.#takes('sign', '=')) return { kind: 'in', path, literals: [this.#literal()] };
    if (this.#takes('sign', '!=')) return { kind: 'not', inner: { kind: 'in', path, literals: [this.#literal()] } };
    if (this.#takes('sign', '^=')) return { kind: 'prefix', path, text: this.#text() };
    const order = ORDERS.find((known) => this.#takes('sign', known));
    if (order === undefined) throw this.#wrong('=, !=, ^=, <, <=, >, >= or in');
    return this.#ordered(path, order);
  }

  /** A number compares numbers, a text in quotes compares versions. */
  #ordered(path: readonly string[], order: Order): Query {
    const { kind, text, column } = this.#token;
    if (kind === 'number') return { kind: 'number', path, order, number: Number(this.#next().text) };
    const version = parseVersion(this.#text());
    if (!version) throw new QueryError(`'${text.slice(0, 40)}' is no version; they look like '1.4.0' or '1.4.0-rc.1'`, column);
    return { kind: 'version', path, order, version };
  }

  #path(): readonly string[] {
    if (this.#token.kind !== 'word' || KEYWORDS.has(this.#token.text)) throw this.#wrong('a name, as health.version');
    return this.#next().text.split('.');
  }

  #list(): readonly Literal[] {
    this.#expect('[');
    const literals = [this.#literal()];
    while (this.#takes('sign', ',')) {
      this.#count();
      literals.push(this.#literal());
    }
    this.#expect(']');
    return literals;
  }

  #literal(): Literal {
    const { kind, text } = this.#token;
    const isTruth = kind === 'word' && (text === 'true' || text === 'false');
    if (!isTruth && kind !== 'number' && kind !== 'text') throw this.#wrong("a text in 'quotes', a number, true or false");
    this.#next();
    if (isTruth) return text === 'true';
    return kind === 'number' ? Number(text) : text;
  }

  #text(): string {
    if (this.#token.kind !== 'text') throw this.#wrong("a text in 'quotes'");
    return this.#next().text;
  }

  #count(): void {
    if (++this.#terms > LIMITS.queryTermsMax) throw new QueryError(`more than ${LIMITS.queryTermsMax} tests and values`, this.#token.column);
  }

  #takes(kind: Token['kind'], text: string): boolean {
    const isThere = this.#token.kind === kind && this.#token.text === text;
    if (isThere) this.#at++;
    return isThere;
  }

  #expect(sign: string): void {
    if (!this.#takes('sign', sign)) throw this.#wrong(`'${sign}'`);
  }

  #next(): Token {
    const token = this.#token;
    this.#at++;
    return token;
  }

  get #token(): Token { return this.#tokens[this.#at] ?? { kind: 'end', text: '', column: 1 }; }

  #wrong(expected: string): QueryError {
    const { kind, text, column } = this.#token;
    return new QueryError(`expected ${expected}, found ${kind === 'end' ? 'the end' : `'${text.slice(0, 40)}'`}`, column);
  }
}
