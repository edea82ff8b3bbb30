/** Bad input as a value: rejecting is on the hot path of a flood, and an exception with its stack would cost ten times a good message. */
import type { ErrorCode } from '#runtime/core/errors.ts';

export class Rejection {
  readonly kind = 'reject';
  readonly code: ErrorCode;
  /** For people; quotes the sender only escaped and cut. */
  readonly detail: string;

  constructor(code: ErrorCode, detail: string) {
    this.code = code;
    this.detail = detail;
  }
}

const QUOTE_MAX = 40;

/** The sender's text, fit for one line of a log. */
export const quoted = (text: string): string => JSON.stringify(text.length > QUOTE_MAX ? `${text.slice(0, QUOTE_MAX)}…` : text);
