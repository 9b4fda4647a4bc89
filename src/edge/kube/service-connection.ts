/** Asks Holdfast's service in the cluster, one request at a time, with the pod's own bound token. */
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { HoldfastError } from '../../engine/model/errors.ts';

export interface ServiceOptions {
  /** `http://` or `https://`, host and port, a path in front if there is one. */
  readonly address: string;
  /** The pod's bound token, read again for each question since it is replaced; undefined: none is sent. */
  readonly tokenFile: string | undefined;
  /** Certificates that the service's is signed with, as a file or as PEM; undefined both: those of the system. */
  readonly caFile: string | undefined;
  readonly ca: string | undefined;
}

export interface ServiceReply {
  readonly status: number;
  readonly body: string;
}

/** A service that is restarted answers within this, and nobody waits longer for an answer that only spares a wait. */
const answerMsMax = 5000;
const answerBytesMax = 4096;

/** E_USAGE when the address is none. */
export function openServiceConnection(options: ServiceOptions): ServiceConnection {
  const url = URL.canParse(options.address) ? new URL(options.address) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') {
    throw new HoldfastError(
      'E_USAGE',
      `--service is ${JSON.stringify(options.address)}, not the address of a service`,
      {
        remedy:
          'Give an address such as https://holdfast.holdfast-system.svc; the token is a file (--service-token-file).',
      },
    );
  }
  return new ServiceConnection(options, url);
}

export class ServiceConnection {
  readonly #options: ServiceOptions;
  readonly #url: URL;

  constructor(options: ServiceOptions, url: URL) {
    this.#options = options;
    this.#url = url;
  }

  /** Any status is a reply. Errors of the file system and the network as they are, and one after 5 s. */
  async ask(path: string, body: string, signal: AbortSignal | undefined): Promise<ServiceReply> {
    const { tokenFile, caFile } = this.#options;
    const url = new URL(this.#url.pathname.replace(/\/+$/, '') + path, this.#url);
    const token = tokenFile === undefined ? undefined : (await readFile(tokenFile, 'utf8')).trim();
    const ca = caFile === undefined ? this.#options.ca : await readFile(caFile);
    const timeout = AbortSignal.timeout(answerMsMax);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(
        url,
        {
          method: 'POST',
          agent: false,
          headers: {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(body),
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          },
          ...(ca === undefined ? {} : { ca }),
          signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
        },
        resolve,
      );
      request.on('error', reject);
      request.end(body);
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > answerBytesMax) {
        response.destroy();
        throw new Error('an answer that is too long');
      }
      chunks.push(chunk);
    }
    return { status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() };
  }
}
