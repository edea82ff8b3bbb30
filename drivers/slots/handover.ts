/** What the gateway and root's keeper of the folders tell each other: one small file each way. */
import { TenzroError, toldError } from '#runtime/core/errors.ts';

export interface Request {
  /** The answer names it. */
  readonly id: string;
  readonly do: 'install' | 'commit' | 'revert' | 'abandon';
}

/** How a request ended. */
export type Outcome = { readonly error?: TenzroError };

const ID = /^[0-9a-f-]{36}$/;
const DOES: readonly unknown[] = ['install', 'commit', 'revert', 'abandon'] satisfies readonly Request['do'][];

const membersOf = (text: string): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {}; // a request of nothing is refused, and a result of nothing is not the one that is waited for
  }
};

/** Undefined for what is none. */
export function parseRequest(text: string): Request | undefined {
  const { id, do: what, ...more } = membersOf(text);
  return typeof id === 'string' && ID.test(id) && DOES.includes(what) && Object.keys(more).length === 0 ? { id, do: what as Request['do'] } : undefined;
}

export const formatResult = (id: string, error: TenzroError | undefined): string => `${JSON.stringify({ id, ...(error ? { code: error.code, message: error.message.slice(0, 1_000) } : {}) })}\n`;

/** Undefined while the request of that id has not ended. */
export function parseResult(text: string, wanted: string): Outcome | undefined {
  const { id, ...told } = membersOf(text);
  if (id !== wanted) return undefined;
  return Object.keys(told).length === 0 ? {} : { error: toldError(told) ?? new TenzroError('update.slots', 'the answer cannot be read') };
}
