/** The options of `tenzro flash`. */
import type { Command } from 'commander';
import type { FlashFlags } from './flash.ts';
import type { Io } from './io.ts';

export function declareFlash(root: Command, io: Io): void {
  root.command('flash <image> [target]').description('Writes an image (.img, .img.xz) onto a card, stick or into a file, and reads it back. Without a target: lists the cards that are here.')
    .option('--wifi <ssid>', 'network for the first start of a Tenzro Edge card; its passphrase is asked for. It lies on the card in clear until then')
    .option('--wifi-file <file>', 'take that passphrase from the first line of a file that nobody else can read')
    .option('--country <code>', 'where the radio is, two letters as DE: which channels it may use')
    .option('--hostname <name>', 'host name of the card; default: tenzro- and six digits of its own')
    .option('--timezone <zone>', 'time zone of the card, as Europe/Berlin')
    .option('--config <file>', 'configuration of the gateway on the card, a tenzro.yaml; it is checked before')
    .option('--bmap <file>', 'block map of bmaptool: write only what the image holds; default: the one beside the image')
    .option('--no-bmap', 'write every byte, also where a block map lies beside the image')
    .option('--put <files...>', 'other files that the image reads at its first start, for its FAT boot partition; nothing is mounted')
    .option('--force-fixed', 'also onto a disk that is built in; never onto one that is mounted or swapped to')
    .option('--yes', 'overwrite without asking')
    .option('--json', 'print JSON for scripts')
    .addHelpText('after', '\nExamples:\n  $ tenzro flash tenzro-edge.img.xz\n  $ sudo tenzro flash tenzro-edge.img.xz /dev/sdX\n  $ sudo tenzro flash tenzro-edge.img.xz /dev/sdX --wifi workshop --country DE --hostname hall-3\n  $ tenzro flash tenzro-edge.img.xz copy.img')
    .action(async (image: string, target: string | undefined, flags: FlashFlags) => { await (await import('./flash.ts')).flash(io, image, target, flags); });
}
