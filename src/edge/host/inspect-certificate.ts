/** What certificates, their keys, and the authorities behind them say of each other. Whether they are valid now is for the caller to judge. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { CertificateTimes, CertificateWithKey } from './make-certificate.ts';

/** The times of an authority; undefined when it is none that could sign. */
export function inspectAuthority({ cert, key }: CertificateWithKey): CertificateTimes | undefined {
  return inspected(() => {
    const certificate = new X509Certificate(cert);
    return certificate.ca && certificate.checkPrivateKey(createPrivateKey(key)) ? certificate : undefined;
  });
}

/** The times of a server's certificate; undefined when `authority` has not signed it, for that name, or the key is another's. */
export function inspectServerCertificate(
  { cert, key }: CertificateWithKey,
  { name, authority }: { readonly name: string; readonly authority: string },
): CertificateTimes | undefined {
  return inspected(() => {
    const certificate = new X509Certificate(cert);
    const signer = new X509Certificate(authority);
    const isSigned = certificate.checkIssued(signer) && certificate.verify(signer.publicKey);
    const fits = certificate.checkPrivateKey(createPrivateKey(key)) && certificate.checkHost(name) !== undefined;
    return isSigned && fits ? certificate : undefined;
  });
}

function inspected(look: () => X509Certificate | undefined): CertificateTimes | undefined {
  try {
    const certificate = look();
    if (certificate === undefined) return undefined;
    return {
      validFromMs: certificate.validFromDate.getTime(),
      validUntilMs: certificate.validToDate.getTime(),
    };
  } catch {
    // No certificate, or no key.
    return undefined;
  }
}

/** The certificates of a bundle that are valid until after `nowMs`; what is no certificate is left out. */
export function validAuthorities(bundle: string, nowMs: number): readonly string[] {
  return certificatesIn(bundle).filter((pem) => (inspected(() => new X509Certificate(pem))?.validUntilMs ?? 0) > nowMs);
}

/** When each certificate of a bundle ends, ms since 1970. */
export function endsOfBundle(bundle: string): readonly number[] {
  return certificatesIn(bundle).flatMap((pem) => inspected(() => new X509Certificate(pem))?.validUntilMs ?? []);
}

function certificatesIn(bundle: string): readonly string[] {
  return (bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map((pem) => `${pem}\n`);
}
