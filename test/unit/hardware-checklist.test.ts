import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { KIND } from '#runtime/core/types.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const PAGES = ['docs/hardware-checklist.md', 'docs/operate/jetson.md'];
const SYSTEM_ROOT = join(ROOT, 'image/system/root');
/** Values stand in capitals, as names of files, or belong to the options before them. */
const WORD = /^[a-z][a-z-]*$/;

const helps = new Map<string, string>();
function help(path: readonly string[]): string {
  const key = path.join(' ');
  const known = helps.get(key);
  if (known !== undefined) return known;
  const { stdout } = spawnSync(process.execPath, ['runtime/cli/tenzro.js', ...path, '--help'], { cwd: ROOT, encoding: 'utf8' });
  helps.set(key, stdout);
  return stdout;
}
/** Names below "Commands:" of a help text. */
const subcommands = (text: string): ReadonlySet<string> => new Set([...(text.split('\nCommands:\n')[1] ?? '').matchAll(/^ {2}([a-z][a-z-]*)/gm)].map(([, name = '']) => name));

/** Everything that is code on a page: what follows `tenzro` up to what ends a command. */
function commandsOf(text: string): string[][] {
  const code = [...text.matchAll(/`([^`\n]+)`/g), ...text.matchAll(/^ {4}(.+)$/gm)].map(([, inside = '']) => inside.replaceAll('\\|', '|'));
  return code.flatMap((inside) => inside.split(/[;|&]|\s#/)).flatMap((part) => {
    const words = part.trim().split(/\s+/);
    const at = words.findIndex((word, i) => word === 'tenzro' && words[i - 1] !== '-u' && words[i - 1] !== 'stop');
    return at === -1 || words.length === at + 1 ? [] : [words.slice(at + 1)];
  });
}

describe('docs: what the pages for boards name is there', function () {
  this.timeout(60_000);
  const texts = new Map(PAGES.map((page) => [page, readFileSync(join(ROOT, page), 'utf8')]));

  it('every tenzro command, and every option of it', () => {
    let checked = 0;
    for (const [page, text] of texts) {
      for (const words of commandsOf(text)) {
        const path: string[] = [];
        for (const word of words) {
          if (!WORD.test(word) || !subcommands(help(path)).has(word)) break;
          path.push(word);
        }
        const line = `${page}: tenzro ${words.join(' ')}`;
        if (path.length === 0) assert.equal(words[0], '--version', `${line}: there is no such command`);
        assert.equal(subcommands(help(path)).size === 0 || path.length === 0, true, `${line}: ${path.join(' ')} wants a command of its own`);
        for (const option of words.filter((word) => word.startsWith('-'))) assert.match(help(path), new RegExp(`(?:^|[\\s,])${option}(?![\\w-])`, 'm'), `${line}: no ${option}`);
        for (const kind of words.includes('--kind') ? (words[words.indexOf('--kind') + 1] ?? '').split(',') : []) assert.ok(Object.hasOwn(KIND, kind), `${line}: no kind ${kind}`);
        checked += 1;
      }
    }
    assert.ok(checked > 40, `only ${checked} commands were found`);
  });

  it('every file of the repository, every script of npm, every setting', () => {
    const scripts = Object.keys((JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> }).scripts);
    const settings = readFileSync(join(ROOT, 'docs/reference/configuration.md'), 'utf8');
    for (const [page, text] of texts) {
      for (const [path] of text.matchAll(/(?<![\w/.-])(?:image|test|runtime|drivers|provisioning)\/[\w*./-]*[\w*]/g)) {
        const found = path.includes('*') ? globSync(path, { cwd: ROOT }).length > 0 : existsSync(join(ROOT, path)) || existsSync(join(ROOT, `${path}.ts`));
        assert.ok(found, `${page}: no ${path}`);
      }
      for (const [, script = ''] of text.matchAll(/npm run ([\w:]+)/g)) assert.ok(scripts.includes(script) || script === 'build', `${page}: no npm run ${script}`); // `build` is ONNX Runtime's own
      for (const [, setting = ''] of text.matchAll(/`((?:infer|attest|fleet|ledger)\.\w+)`/g)) assert.ok(settings.includes(`\`${setting}\``), `${page}: no setting ${setting}`);
    }
  });

  it('every long run: testing.md says what it needs and takes', () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
    const page = readFileSync(join(ROOT, 'docs/operate/testing.md'), 'utf8');
    for (const script of Object.keys(scripts).filter((name) => /^(?:test:|build:|train:|soak|bench)/.test(name))) assert.match(page, new RegExp(String.raw`^\| \`npm run ${script}\` \|`, 'm'), `testing.md has no row for ${script}`);
  });

  it('every unit of ours, and what the boot loader is said to print', () => {
    const units = new Set([...readdirSync(join(SYSTEM_ROOT, 'usr/lib/systemd/system')), 'tenzro-edge.service'].map((name) => name.replace(/\.\w+$/, '')));
    const text = texts.get('docs/hardware-checklist.md') ?? '';
    for (const [, unit = ''] of text.matchAll(/(?:systemctl \w+|-P \w+(?:,\w+)*|by `?)\s?(tenzro-\w+)/g)) assert.ok(units.has(unit), `no unit ${unit}`);
    const script = readFileSync(join(ROOT, 'image/disk/boot.cmd'), 'utf8');
    for (const said of ['tenzro: slot ', ', order ', ', tries left A ', 'no slot has tries left, both get them back', 'boot state damaged, starting anew', 'BOOT_A_LEFT', 'BOOT_B_LEFT', 'rauc.slot=', 'systemd.machine_id=']) {
      assert.ok(script.includes(said) && text.includes(said), said);
    }
  });
});
