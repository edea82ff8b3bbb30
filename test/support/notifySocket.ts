/** Stands in for systemd's end of sd_notify(3): a datagram socket of the unix kind, which Node lacks, so python3 holds it. Takes barriers as systemd does. */
import { join } from 'node:path';
import { Program } from './process.ts';
import { until } from './until.ts';

const RECEIVER = `
import json, os, socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
print('[]', flush=True)
while True:
    data, descriptors, _flags, _address = socket.recv_fds(receiver, 65536, 8)
    for descriptor in descriptors: os.close(descriptor)
    print(json.dumps(data.decode().split('\\n')), flush=True)
`;

export class NotifySocket implements AsyncDisposable {
  readonly path: string;
  readonly #receiver: Program;

  private constructor(path: string, receiver: Program) {
    this.path = path;
    this.#receiver = receiver;
  }

  static async open(folder: string, python: string): Promise<NotifySocket> {
    const path = join(folder, 'notify');
    const socket = new NotifySocket(path, new Program(python, ['-c', RECEIVER, path]));
    await until('the receiver', () => socket.#receiver.stdout.includes('\n'), { hopeless: () => (socket.#receiver.running ? undefined : socket.#receiver.output) });
    return socket;
  }

  /** Every message but barriers, oldest first: its assignments. */
  get messages(): readonly (readonly string[])[] {
    const whole = this.#receiver.stdout.slice(0, this.#receiver.stdout.lastIndexOf('\n'));
    return whole.split('\n').slice(1).map((line) => JSON.parse(line) as string[]).filter(([first]) => first !== 'BARRIER=1');
  }

  count(assignment: string): number { return this.messages.filter((message) => message.includes(assignment)).length; }

  async [Symbol.asyncDispose](): Promise<void> { await this.#receiver[Symbol.asyncDispose](); }
}
