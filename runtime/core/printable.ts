/**
 * Text from peers made safe for a terminal or a log line: control characters (C0, DEL, C1), line separators and bidirectional overrides become
 * visible escapes, so that a topic cannot move the cursor, forge a line or turn the text around.
 */
export const printable = (text: string): string =>
  text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
