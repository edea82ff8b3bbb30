/**
 * The gateway's way to its verifier: HTTPS over TLS 1.3, one request per connection, known to the verifier by a certificate around the identity key.
 * What comes back is bounded and hostile until decoded.
 */
import type { IncomingMessage } from 'node:http';
import type { RequestOptions } from 'node:https';
import { TLSSocket } from 'node:tls';
import { ERRORS, TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { clientCertificate, clientKey } from '#runtime/crypto/clientIdentity.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { negotiatedGroup, secureClientOptions } from '#runtime/crypto/tls.ts';
import { CBOR_MEDIA_TYPE, decodeRefusal } from '#runtime/ledger/leaseMessages.ts';

export interface ClientOptions {
  /** `https://host:port`. */
  readonly url: string;
  /** PEM certificates that the verifier's must chain to; read for each request, so that a new file counts at once. May throw a TenzroError. */
  readonly ca: () => string | string[];
}

export interface Response {
  readonly body: Buffer;
  /** Key exchange of the connection, as IANA names it. */
  readonly group: string;
}

/** A lease and every refusal are far smaller. */
const ANSWER_BYTES_MAX = 128 * 1024;
const HTTP_OK = 200;

export class VerifierClient {
  readonly #options: ClientOptions;
  readonly #request: typeof import('node:https').request;
  #certificate: string | undefined;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#request = process.getBuiltinModule('node:https').request; // loaded only where there is a verifier
  }

  /** Rejects with the code that the verifier names, `lease.unreachable` and `lease.protocol`. */
  async post(path: string, body: Uint8Array, { signer, device }: { readonly signer: Signer; readonly device: string }, signal: AbortSignal): Promise<Response> {
    const { url, ca } = this.#options;
    const authorities = ca();
    const key = clientKey(signer);
    const options: RequestOptions = {
      ...secureClientOptions(), method: 'POST', agent: false, ca: authorities, key, cert: this.#certificate ??= clientCertificate(signer, device),
      headers: { 'content-type': CBOR_MEDIA_TYPE, 'content-length': body.length }, signal: AbortSignal.any([signal, AbortSignal.timeout(LIMITS.leaseRequestTimeoutMs)]),
    };
    try {
      const { response, group } = await this.#send(new URL(path, url), options, body);
      const answer = await readAnswer(response);
      if (response.statusCode !== HTTP_OK) throw refusalOf(response, answer);
      return { body: answer, group };
    } catch (cause) {
      if (cause instanceof TenzroError) throw cause;
      throw new TenzroError('lease.unreachable', `${url}: ${messageOf(cause)}`, { cause });
    } finally {
      key.fill(0);
    }
  }

  #send(url: URL, options: RequestOptions, body: Uint8Array): Promise<{ readonly response: IncomingMessage; readonly group: string }> {
    return new Promise((resolve, reject) => {
      const outgoing = this.#request(url, options, (response) => {
        resolve({ response, group: response.socket instanceof TLSSocket ? negotiatedGroup(response.socket) : 'unknown' });
      });
      outgoing.once('error', reject).end(body);
    });
  }
}

async function readAnswer(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > ANSWER_BYTES_MAX) throw new TenzroError('lease.protocol', `the verifier answers with more than ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}

/** Codes that a verifier may name; with any other it does not speak our protocol. */
const isToldCode = (code: string): code is ErrorCode => code in ERRORS && /^(?:lease\.refused|verifier|enrol)/.test(code);

function refusalOf({ statusCode = 0, headers }: IncomingMessage, body: Uint8Array): TenzroError {
  try {
    const { code, message } = decodeRefusal(body);
    const retryAfterMs = Number(headers['retry-after'] ?? 0) * 1_000;
    if (isToldCode(code)) return new TenzroError(code, message, retryAfterMs > 0 ? { retryAfterMs } : {});
  } catch (cause) {
    return new TenzroError('lease.protocol', `the verifier answers with HTTP status ${statusCode}: ${messageOf(cause)}`, { cause });
  }
  return new TenzroError('lease.protocol', `the verifier answers with HTTP status ${statusCode} and an unknown code`);
}
