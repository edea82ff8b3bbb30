/** `model_install`: a model package by its digest, from anywhere, in place of the one in use or beside the others; or its removal. */
import type { CommandHandler } from '#runtime/core/command.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { ABLE, onlyKnown, textIn, wholeIn, wrong, type Parameters, type Result } from './parameters.ts';

export interface ModelOrder {
  readonly name: string;
  /** Of the archive, lower-case hexadecimal. */
  readonly sha256: string;
  readonly bytes: number;
  readonly from: { readonly url: string } | { readonly inline: Buffer };
}

/** Who keeps the installed models and runs them. */
export interface ModelKeeper {
  /** Largest archive, bytes. */
  readonly bytesMax: number;
  /** Whether it could be tried. Throws a TenzroError. */
  check(order: ModelOrder): void;
  install(order: ModelOrder, signal: AbortSignal): Promise<Result>;
  checkRemoval(name: string): void;
  remove(name: string, signal: AbortSignal): Promise<Result>;
  /** What the name stands for: SHA-256 of its archive. Undefined: nothing was installed. */
  installed(name: string): string | undefined;
}

const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;
const SHA256 = /^[0-9a-f]{64}$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const URL_CHARACTERS_MAX = 2_048;

export const modelInstall = (keeper: Maybe<ModelKeeper>): CommandHandler => {
  if (keeper.kind === 'none') return { support: keeper, run: async () => ({}) };
  const models = keeper.value;
  return {
    support: ABLE,
    async run({ parameters, isDryRun }, signal) {
      const order = orderOf(parameters, models.bytesMax);
      if ('remove' in order) models.checkRemoval(order.name);
      else models.check(order);
      if (isDryRun) return { dry_run: true };
      return 'remove' in order ? models.remove(order.name, signal) : models.install(order, signal);
    },
    resume({ parameters }) {
      const order = orderOf(parameters, models.bytesMax);
      const sha256 = models.installed(order.name);
      if ('remove' in order) return sha256 === undefined ? { name: order.name, removed: true } : undefined;
      return sha256 === order.sha256 ? { name: order.name, sha256, effective: 'at this start' } : undefined;
    },
  };
};

function orderOf(parameters: Parameters, bytesMax: number): ModelOrder | { readonly name: string; readonly remove: true } {
  const name = textIn(parameters, 'name', 64);
  if (!NAME.test(name)) throw wrong('name is not 1 to 64 of a-z, 0-9 and -, beginning with a letter or digit');
  if (parameters['remove'] === true) {
    onlyKnown(parameters, ['name', 'remove']);
    return { name, remove: true };
  }
  onlyKnown(parameters, ['name', 'url', 'inline', 'sha256', 'bytes']);
  const sha256 = textIn(parameters, 'sha256', 64);
  if (!SHA256.test(sha256)) throw wrong('sha256 is not 64 lower-case hexadecimal digits');
  return { name, sha256, bytes: wholeIn(parameters, 'bytes', 1, bytesMax), from: sourceOf(parameters) };
}

function sourceOf(parameters: Parameters): ModelOrder['from'] {
  const { url, inline } = parameters;
  if ((url === undefined) === (inline === undefined)) throw wrong('either url or inline says where the package is');
  if (url !== undefined) return { url: textIn(parameters, 'url', URL_CHARACTERS_MAX) };
  if (typeof inline !== 'string' || !BASE64.test(inline)) throw wrong('inline is not base64');
  return { inline: Buffer.from(inline, 'base64') };
}
