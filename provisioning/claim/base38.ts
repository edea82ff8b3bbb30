/**
 * Base-38 as Matter writes it (Core Specification 1.4 §5.1.3.1): three bytes, least significant first, in five characters, least significant first; a
 * tail of two bytes in four, of one in two. All characters are in QR's alphanumeric set, and none means anything to a shell, a URL or a typesetter.
 */
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-.';
const RADIX = ALPHABET.length;
const BYTES_PER_GROUP = 3;
/** Characters for no, one, two and three bytes. */
const CHARACTERS = [0, 2, 4, 5] as const;

export const GROUP_CHARACTERS = 5;

/** Where a text is not base-38: index of the first character of the group that is wrong, and why. */
export interface Base38Fault {
  readonly at: number;
  readonly why: 'character' | 'overflow' | 'length';
}

export function encodeBase38(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += BYTES_PER_GROUP) {
    const group = bytes.subarray(at, at + BYTES_PER_GROUP);
    let value = (group[0] ?? 0) + (group[1] ?? 0) * 0x100 + (group[2] ?? 0) * 0x1_0000;
    for (let left = CHARACTERS[group.length] ?? 0; left > 0; left--) {
      text += ALPHABET.charAt(value % RADIX);
      value = Math.floor(value / RADIX);
    }
  }
  return text;
}

/** One text for each byte string: what `encodeBase38` would not have written is a fault. Linear in the length, which the caller bounds. */
export function decodeBase38(text: string): Buffer | Base38Fault {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at += GROUP_CHARACTERS) {
    const group = text.slice(at, at + GROUP_CHARACTERS);
    const count = CHARACTERS.findIndex((characters) => characters === group.length);
    if (count < 0) return { at, why: 'length' };
    let value = 0;
    for (let digit = group.length - 1; digit >= 0; digit--) {
      const place = ALPHABET.indexOf(group.charAt(digit));
      if (place < 0) return { at: at + digit, why: 'character' };
      value = value * RADIX + place;
    }
    if (value >= 0x100 ** count) return { at, why: 'overflow' };
    for (let left = count; left > 0; left--, value = Math.floor(value / 0x100)) bytes.push(value % 0x100);
  }
  return Buffer.from(bytes);
}

/** Every text that one slip of the finger turns into `text`: one character replaced, or two neighbours exchanged; with the index of the slip. */
export function* slipsOf(text: string): Generator<{ readonly at: number; readonly text: string }> {
  for (let at = 0; at < text.length; at++) {
    const [before, own, next] = [text.slice(0, at), text.charAt(at), text.charAt(at + 1)];
    for (const other of ALPHABET) if (other !== own) yield { at, text: before + other + text.slice(at + 1) };
    if (next !== '' && next !== own) yield { at, text: before + next + own + text.slice(at + 2) };
  }
}
