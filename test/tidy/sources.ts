/** The repository's own files as the tidy test sees them: what git tracks, comments blanked, imports listed. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

export const ROOT = join(import.meta.dirname, '..', '..');

export interface Import {
  /** As written: `#runtime/core/errors.ts`, `./x.ts`, `node:fs`, `lmdb`. */
  readonly specifier: string;
  /** Path from the root where it names a file of ours. */
  readonly file: string | undefined;
  /** Name of the npm package where it names one. */
  readonly npm: string | undefined;
  readonly kind: 'static' | 'lazy' | 'type';
}

export interface Source {
  /** From the root, with forward slashes. */
  readonly path: string;
  readonly text: string;
  /** `text` with comments blanked, lines kept. */
  readonly code: string;
  readonly imports: readonly Import[];
}

/** Files that git tracks and that are still there. */
export const trackedFiles = (): string[] =>
  execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' }).split('\0').filter((path) => path !== '' && existsSync(join(ROOT, path)));

export const readText = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

export function readSource(path: string): Source {
  const text = readText(path);
  const code = blankComments(text);
  return { path, text, code, imports: importsOf(path, code) };
}

/** Strings, templates and regular expressions are matched too, so that a `//` inside them is no comment. */
const TOKENS = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|(?<=[=(,:[!&|?;{}]\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/g;

export const blankComments = (text: string): string =>
  text.replace(TOKENS, (token) => (token.startsWith('//') || token.startsWith('/*') ? token.replace(/[^\n]/g, ' ') : token));

const STATIC = /^[ \t]*(?:import|export)\b(?<type>\s+type\b)?[^;'"()=]*?\bfrom\s*['"](?<specifier>[^'"]+)['"]/gm;
const SIDE_EFFECT = /^[ \t]*import\s*['"](?<specifier>[^'"]+)['"]/gm;
const CALLED = /(?<query>\btypeof\s+)?\b(?:import|\w*[rR]equire|\w*[rR]equire\.resolve)\(\s*['"](?<specifier>[^'"]+)['"](?<member>\)\.[A-Z])?/g;

function importsOf(path: string, code: string): Import[] {
  const found: Import[] = [];
  for (const [pattern, kind] of [[STATIC, 'static'], [SIDE_EFFECT, 'static'], [CALLED, 'lazy']] as const) {
    for (const { groups } of code.matchAll(pattern)) {
      const specifier = groups?.['specifier'] ?? '';
      const isType = (groups?.['type'] ?? groups?.['query'] ?? groups?.['member']) !== undefined;
      found.push({ specifier, file: fileOf(path, specifier), npm: npmOf(specifier), kind: isType ? 'type' : kind });
    }
  }
  return found;
}

function fileOf(from: string, specifier: string): string | undefined {
  if (specifier.startsWith('#')) return specifier.slice(1);
  return specifier.startsWith('.') ? normalize(join(dirname(from), specifier)) : undefined;
}

function npmOf(specifier: string): string | undefined {
  if (/^(?:[.#/]|node:)/.test(specifier)) return undefined;
  return specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
}

/** Everything that `start` pulls in at run time, itself included. */
export function closure(start: Source, sources: ReadonlyMap<string, Source>): Set<Source> {
  const reached = new Set<Source>([start]);
  for (const source of reached) {
    for (const { file, kind } of source.imports) {
      const next = file === undefined || kind === 'type' ? undefined : sources.get(file);
      if (next) reached.add(next);
    }
  }
  return reached;
}
