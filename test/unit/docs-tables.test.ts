import { listKeys } from '#runtime/config/keys.ts';
import { settingsSchema } from '#runtime/config/schema.ts';
import { ERRORS } from '#runtime/core/errors.ts';
import { assertDocTable } from '#test/support/docTable.ts';

describe('reference pages that come from code', () => {
  it('configuration.md lists every key with type, default and meaning', () => {
    const machine = { nodeName: '', dataDir: '', modelsDir: '', systemIntervalMs: 10_000 };
    const rows = listKeys(settingsSchema(machine)).map(({ key, type, fallback, means }) => [`\`${key}\``, type, fallback === undefined || fallback === '""' ? '' : `\`${fallback}\``, means]);
    assertDocTable('configuration.md', [['key', 'type', 'default', 'meaning'], ...rows]);
  });

  it('error-codes.md lists every code with class and hint', () => {
    const rows = Object.entries(ERRORS).map(([code, row]) => [`\`${code}\``, row.class, row.hint]);
    assertDocTable('error-codes.md', [['code', 'class', 'what to do'], ...rows]);
  });
});
