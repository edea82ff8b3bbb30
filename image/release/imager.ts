/** The list that Raspberry Pi Imager takes as a repository (raspberrypi/rpi-imager, doc/json-schema/os-list-schema.json; `devices` as in its doc/local_json). Pure. */

export interface ImagerEntry {
  readonly version: string;
  readonly url: string;
  readonly extractBytes: number;
  readonly extractSha256: string;
  readonly downloadBytes: number;
  readonly downloadSha256: string;
  readonly epochSeconds: number;
  /** What people must not miss: DEVELOPMENT, EMULATION. */
  readonly remark: string;
}

/** Tags of Imager's own device list: Zero 2 W goes by pi3. */
const DEVICES = ['pi4-64bit', 'pi3-64bit'];
const ICON = `data:image/svg+xml;base64,${Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40"><rect width="40" height="40" rx="8" fill="#12355b"/><path d="M9 11h22v5h-8v15h-6V16H9z" fill="#fff"/></svg>').toString('base64')}`;

export function imagerList(entry: ImagerEntry): string {
  return `${JSON.stringify({
    os_list: [{
      name: `Tenzro Edge ${entry.version}${entry.remark}`,
      description: 'IoT gateway whose data can be trusted, for Raspberry Pi 3, 4 and Zero 2 (64-bit)',
      icon: ICON, url: entry.url, website: 'https://tenzro.invalid/edge',
      extract_size: entry.extractBytes, extract_sha256: entry.extractSha256,
      image_download_size: entry.downloadBytes, image_download_sha256: entry.downloadSha256,
      release_date: new Date(entry.epochSeconds * 1_000).toISOString().slice(0, 10),
      init_format: 'cloudinit', devices: DEVICES, architecture: 'armv8',
    }],
  }, undefined, 2)}\n`;
}
