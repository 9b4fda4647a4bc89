/**
 * The certificates of a server inside of a cluster: an authority of its own, and what it signs. X.509 (RFC 5280) in the DER that it needs and no
 * more, since Node can read certificates and not make them.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';

/** PEM. */
export interface CertificateWithKey {
  readonly cert: string;
  readonly key: string;
}

/** ms since 1970. */
export interface CertificateTimes {
  readonly validFromMs: number;
  readonly validUntilMs: number;
}

export function makeAuthority({ validFromMs, validUntilMs }: CertificateTimes): CertificateWithKey {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  // A name of its own for each: clients find an authority by its name, and old and new ones stand side by side for a while.
  const name = `holdfast ${randomBytes(8).toString('hex')}`;
  const made = certificate({
    issuer: name,
    subject: name,
    signer: keys,
    publicKey: keys.publicKey,
    validity: [validFromMs, validUntilMs],
    extensions: [
      extension('2.5.29.19', true, sequence(tagged(0x01, Buffer.of(0xff)))),
      // keyCertSign
      extension('2.5.29.15', true, tagged(0x03, Buffer.of(2, 0x04))),
    ],
  });
  return { cert: pem(made), key: pemKey(keys.privateKey) };
}

/** `names`: DNS names of the server. */
export function makeServerCertificate(
  authority: CertificateWithKey,
  { names, validFromMs, validUntilMs }: CertificateTimes & { readonly names: readonly string[] },
): CertificateWithKey {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const privateKey = createPrivateKey(authority.key);
  const issuer = /^CN=(.*)$/m.exec(new X509Certificate(authority.cert).subject)?.[1] ?? '';
  const made = certificate({
    issuer,
    // A common name is bounded by 64 characters, and nobody looks at it where there are alternative names.
    subject: 'holdfast webhook',
    signer: { publicKey: createPublicKey(privateKey), privateKey },
    publicKey: keys.publicKey,
    validity: [validFromMs, validUntilMs],
    extensions: [
      extension('2.5.29.19', true, sequence()),
      // digitalSignature
      extension('2.5.29.15', true, tagged(0x03, Buffer.of(7, 0x80))),
      // serverAuth
      extension('2.5.29.37', false, sequence(objectId('1.3.6.1.5.5.7.3.1'))),
      extension('2.5.29.17', false, sequence(...names.map((name) => tagged(0x82, Buffer.from(name, 'latin1'))))),
    ],
  });
  return { cert: pem(made), key: pemKey(keys.privateKey) };
}

function pemKey(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

interface Content {
  readonly issuer: string;
  readonly subject: string;
  readonly signer: { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
  readonly publicKey: KeyObject;
  readonly validity: readonly [fromMs: number, untilMs: number];
  readonly extensions: readonly Buffer[];
}

function certificate({ issuer, subject, signer, publicKey, validity, extensions }: Content): Buffer {
  const serial = randomBytes(16);
  // A positive number, and not one byte shorter than it looks.
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40;
  // ecdsa-with-SHA256
  const algorithm = sequence(objectId('1.2.840.10045.4.3.2'));
  const all = [
    ...extensions,
    extension('2.5.29.14', false, tagged(0x04, keyIdOf(publicKey))),
    extension('2.5.29.35', false, sequence(tagged(0x80, keyIdOf(signer.publicKey)))),
  ];
  const content = sequence(
    tagged(0xa0, tagged(0x02, Buffer.of(2))),
    tagged(0x02, serial),
    algorithm,
    commonName(issuer),
    sequence(time(validity[0]), time(validity[1])),
    commonName(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...all)),
  );
  const signature = sign('sha256', content, signer.privateKey);
  return sequence(content, algorithm, tagged(0x03, Buffer.concat([Buffer.of(0), signature])));
}

function keyIdOf(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest();
}

function extension(id: string, isCritical: boolean, value: Buffer): Buffer {
  return sequence(objectId(id), ...(isCritical ? [tagged(0x01, Buffer.of(0xff))] : []), tagged(0x04, value));
}

function commonName(text: string): Buffer {
  return sequence(tagged(0x31, sequence(objectId('2.5.4.3'), tagged(0x0c, Buffer.from(text, 'utf8')))));
}

/** UTCTime until 2049, GeneralizedTime from then on, as RFC 5280 wants it. */
function time(ms: number): Buffer {
  const digits = `${new Date(ms).toISOString().replace(/\.\d+/, '').replaceAll(/[-:T]/g, '')}`;
  return digits < '2050' ? tagged(0x17, Buffer.from(digits.slice(2))) : tagged(0x18, Buffer.from(digits));
}

function objectId(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes: number[] = [];
  for (const part of [first * 40 + second, ...rest]) {
    const digits = [part & 0x7f];
    for (let left = Math.floor(part / 128); left > 0; left = Math.floor(left / 128))
      digits.unshift((left & 0x7f) | 0x80);
    bytes.push(...digits);
  }
  return tagged(0x06, Buffer.from(bytes));
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...size), content]);
}

function pem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
