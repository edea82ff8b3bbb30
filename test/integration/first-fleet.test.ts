/** docs/operate/first-fleet.md, command by command, in two shells. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PageShell, shellBlocks } from '#test/support/pageShell.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';

const PAGE = join(import.meta.dirname, '..', '..', 'docs', 'operate', 'first-fleet.md');
/** Starts of a program that a claim may take, in the same run: it takes about ten. What the page promises is 20 s on a machine that does nothing else. */
const STARTS_MAX = 100;

describe('the first fleet', function () {
  this.timeout(180_000);

  it('is claimed, and its first block receipted, by exactly the commands of the page', async function () {
    requirePeer(this, 'swtpm');
    using dir = tempDir('first-fleet');
    await using operator = new PageShell(dir.path);
    await using gateway = new PageShell(dir.path);
    const from = performance.now();
    await operator.type('tenzro --version');
    const startSeconds = (performance.now() - from) / 1_000;
    const blocks = shellBlocks(readFileSync(PAGE, 'utf8'));
    assert.deepEqual(blocks.map(({ shell }) => shell), ['Shell 1', 'Shell 2', 'Shell 1', 'Shell 1']);
    const told: string[] = [];
    for (const [at, { shell, commands }] of blocks.entries()) {
      if (at === 2) await operator.type('until tenzro fleet status --dir fleet > status.log 2>&1; do sleep 0.2; done'); // a reader of the page is slower
      told.push(await (shell === 'Shell 1' ? operator : gateway).type(commands));
    }
    const [, shown = '', claimed = '', looked = ''] = told;
    assert.match(shown, /TZ1: /);
    const seconds = Number(/ is yours: claimed and its first block receipted in ([\d.]+) s/.exec(claimed)?.[1]);
    console.log(`      claim to first receipted block: ${seconds} s; a program starts in ${startSeconds.toFixed(2)} s`);
    assert.ok(seconds <= STARTS_MAX * startSeconds, claimed);
    const [, words = assert.fail('no words')] = / words {2}((?:[a-z]+ ){5}[a-z]+) /.exec(claimed) ?? [];
    assert.match(looked, new RegExp(words), 'the gateway says the same words');
    assert.match(looked, /claim/);
  });
});
