import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** One CA in a directory, and what it has issued: NAME.crt, NAME.key, NAME.kubeconfig. For tests: valid long, keys readable. */
export class Certificates {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
    if (existsSync(this.at('ca.crt'))) return;
    mkdirSync(directory, { recursive: true });
    this.#key('ca');
    this.#openssl(
      ...['req', '-x509', '-new', '-key', this.at('ca.key'), '-days', '3650', '-subj', '/CN=holdfast-test-ca'],
      ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
      ...['-out', this.at('ca.crt')],
    );
    this.#openssl('genrsa', '-out', this.at('accounts.key'), '2048');
    this.#openssl('rsa', '-in', this.at('accounts.key'), '-pubout', '-out', this.at('accounts.pub'));
  }

  at(file: string): string {
    return join(this.directory, file);
  }

  /** `subject` as openssl writes it (`/O=…/CN=…`), `names` as in subjectAltName (`IP:…`, `DNS:…`). */
  issue(name: string, subject: string, names: readonly string[] = []): void {
    if (existsSync(this.at(`${name}.crt`))) return;
    this.#key(name);
    const request = this.at(`${name}.csr`);
    const extensions = this.at(`${name}.ext`);
    writeFileSync(
      extensions,
      'keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=clientAuth,serverAuth\n' +
        (names.length === 0 ? '' : `subjectAltName=${names.join(',')}\n`),
    );
    this.#openssl('req', '-new', '-key', this.at(`${name}.key`), '-subj', subject, '-out', request);
    this.#openssl(
      ...['x509', '-req', '-in', request, '-CA', this.at('ca.crt'), '-CAkey', this.at('ca.key'), '-CAcreateserial'],
      ...['-days', '3650', '-extfile', extensions, '-out', this.at(`${name}.crt`)],
    );
    rmSync(request);
    rmSync(extensions);
  }

  /** Everything in one file, so that it can be copied anywhere. */
  kubeconfig(name: string, server: string): string {
    const base64 = (file: string): string => readFileSync(this.at(file)).toString('base64');
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: name } }],
      clusters: [{ name: 'test', cluster: { server, 'certificate-authority-data': base64('ca.crt') } }],
      users: [
        {
          name,
          user: { 'client-certificate-data': base64(`${name}.crt`), 'client-key-data': base64(`${name}.key`) },
        },
      ],
    };
    const path = this.at(`${name}.kubeconfig`);
    writeFileSync(path, JSON.stringify(config));
    return path;
  }

  #key(name: string): void {
    this.#openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', this.at(`${name}.key`));
  }

  #openssl(...args: readonly string[]): void {
    const { status, stderr, error } = spawnSync('openssl', args, { encoding: 'utf8' });
    if (error !== undefined) throw new Error(`openssl cannot be started: ${error.message}`);
    if (status !== 0) throw new Error(`openssl ${args[0]} ended with ${status}: ${stderr}`);
  }
}
