import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer } from 'node:tls';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  endsOfBundle,
  inspectAuthority,
  inspectServerCertificate,
  validAuthorities,
} from '../../../src/edge/host/inspect-certificate.ts';
import { makeAuthority, makeServerCertificate } from '../../../src/edge/host/make-certificate.ts';

const name = 'holdfast-webhook.holdfast.svc';
const nowMs = Date.now();
const times = { validFromMs: nowMs - 3_600_000, validUntilMs: nowMs + 86_400_000 };
const authority = makeAuthority(times);
const made = makeServerCertificate(authority, { names: [name], ...times });
let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-certificate-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', cwd: directory });
}

it('is one that OpenSSL takes for a server of that name, by the rules of X.509', () => {
  writeFileSync(join(directory, 'ca.pem'), authority.cert);
  writeFileSync(join(directory, 'cert.pem'), made.cert);
  const strict = ['-x509_strict', '-check_ss_sig', '-purpose', 'sslserver', '-verify_hostname', name];
  expect(openssl('verify', ...strict, '-CAfile', 'ca.pem', 'cert.pem')).toBe('cert.pem: OK\n');
  const text = openssl('x509', '-in', 'cert.pem', '-noout', '-text');
  for (const part of ['CA:FALSE', 'Digital Signature', 'TLS Web Server Authentication', `DNS:${name}`, 'Version: 3']) {
    expect(text).toContain(part);
  }
  const authorityText = openssl('x509', '-in', 'ca.pem', '-noout', '-text');
  for (const part of ['CA:TRUE', 'Certificate Sign']) expect(authorityText).toContain(part);
});

it('says the times that were asked for, on both sides of 2050', () => {
  for (const until of ['2049-12-31T23:59:59Z', '2050-01-01T00:00:00Z', '2100-06-01T12:00:00Z']) {
    const { cert } = makeAuthority({ validFromMs: 0, validUntilMs: Date.parse(until) });
    expect(new X509Certificate(cert).validToDate.getTime(), until).toBe(Date.parse(until));
  }
});

it('is trusted by who trusts its authority, and by nobody who trusts another', async () => {
  const server = createServer({ cert: made.cert, key: made.key, minVersion: 'TLSv1.2' }, (socket) => socket.end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const reach = (ca: string, servername: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port, ca, servername }, () => {
        resolve('trusted');
        socket.destroy();
      });
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
  const other = makeAuthority(times);
  expect(await reach(authority.cert, name)).toBe('trusted');
  expect(await reach(other.cert + authority.cert, name)).toBe('trusted');
  expect(await reach(other.cert, name)).not.toBe('trusted');
  expect(await reach(authority.cert, 'other.holdfast.svc')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
  server.close();
});

it('is never the same twice, nor are the names of authorities', () => {
  const other = makeAuthority(times);
  const [a, b] = [new X509Certificate(authority.cert), new X509Certificate(other.cert)];
  expect(a.subject).not.toBe(b.subject);
  expect(a.serialNumber).not.toBe(b.serialNumber);
  expect(other.key).not.toBe(authority.key);
});

it('what does not belong together is found', () => {
  const other = makeAuthority(times);
  const inspect = (given: object, from: object = {}): unknown =>
    inspectServerCertificate({ ...made, ...given }, { name, authority: authority.cert, ...from });
  const whole = { validFromMs: expect.any(Number), validUntilMs: expect.any(Number) };
  expect(inspect({})).toEqual(whole);
  expect(inspect({}, { authority: other.cert })).toBeUndefined();
  expect(inspect({}, { authority: '' })).toBeUndefined();
  expect(inspect({ key: other.key })).toBeUndefined();
  expect(inspect({}, { name: 'x.svc' })).toBeUndefined();
  expect(inspect({ cert: 'no certificate' })).toBeUndefined();
  expect(inspectAuthority(authority)).toEqual(whole);
  expect(inspectAuthority(made)).toBeUndefined();
  expect(inspectAuthority({ ...authority, key: other.key })).toBeUndefined();
});

it('authorities that have expired are found in a bundle', () => {
  const old = makeAuthority({ validFromMs: 0, validUntilMs: nowMs - 1000 });
  expect(validAuthorities(`${old.cert}${authority.cert}rest`, nowMs)).toEqual([authority.cert]);
  expect(endsOfBundle(`${old.cert}${authority.cert}`)).toHaveLength(2);
});
