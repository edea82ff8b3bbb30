import assert from 'node:assert/strict';
import { Postings, type Posting } from '#runtime/controller/postings.ts';
import type { FleetLink } from '#runtime/core/ports.ts';
import { silentLog } from '#test/support/sealHarness.ts';

const CERTIFICATE = 'te/edge-1/certificate';
const LIST = 'te/edge-1/revoked/key-1';

describe('controller: what is kept retained for gateways', () => {
  let wanted: Posting[];
  let said: string[];
  let postings: Postings;
  const payload = (text: string): Buffer => Buffer.from(text);
  const post = async (): Promise<readonly string[]> => {
    said = [];
    await postings.post(['edge-1']);
    return said;
  };
  const connect = (): void => {
    const link: Pick<FleetLink, 'publish'> = { publish: async (topic, bytes) => { said.push(`${topic} ${Buffer.from(bytes).toString()}`); postings.receive(topic, bytes); } };
    postings.connected(link as FleetLink);
  };
  beforeEach(() => {
    wanted = [{ topic: CERTIFICATE, payload: payload('one') }, { topic: LIST, payload: payload('list') }];
    postings = new Postings({ isMember: (gateway) => gateway === 'edge-1', wanted: () => wanted, log: silentLog });
  });

  it('is published where the broker has something else, and not again', async () => {
    assert.deepEqual(await post(), [], 'nobody is there');
    connect();
    postings.receive(CERTIFICATE, payload('one'));
    assert.deepEqual([await post(), await post()], [[`${LIST} list`], []]);
    wanted = [{ topic: CERTIFICATE, payload: payload('two') }];
    assert.deepEqual(await post(), [`${CERTIFICATE} two`]);
  });

  it('is mended where somebody changed or cleared it, and looked at anew with each connection', async () => {
    connect();
    await post();
    postings.receive(CERTIFICATE, payload('forged'));
    postings.receive(LIST, Buffer.alloc(0));
    assert.deepEqual(await post(), [`${CERTIFICATE} one`, `${LIST} list`]);
    postings.lost();
    connect();
    assert.equal((await post()).length, 2);
  });

  it('is taken away where nothing shall be there any more', async () => {
    connect();
    await post();
    wanted = [{ topic: LIST, payload: Buffer.alloc(0) }];
    assert.deepEqual([await post(), await post()], [[`${LIST} `], []]);
  });

  it('remembers nothing of who is not in the fleet', async () => {
    connect();
    postings.receive('te/stranger/certificate', payload('x'));
    postings.receive('te/edge-1/other', payload('x'));
    wanted = [{ topic: 'te/stranger/certificate', payload: payload('x') }];
    assert.equal((await post()).length, 1);
  });
});
