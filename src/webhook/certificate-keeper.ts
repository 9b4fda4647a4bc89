/**
 * The webhook's certificate, which its replicas keep for themselves: in a Secret that the chart has made empty, and of which they may
 * read and update this one. Whoever sees first that something is to be done writes it; the others get 409, and read what was written. The
 * authorities go into the webhook's configuration, which no chart renders, so that GitOps has nothing to set back.
 */
import { HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { Clock } from '../engine/ports/clock.ts';
import {
  authorityValidityMs,
  backdatedMs,
  type CertificatePlan,
  type KeptCertificates,
  planCertificates,
  type Validity,
} from './certificate-plan.ts';
import { isObject, type Json, type JsonObject, member } from './json.ts';
import { pointer } from './json-patch.ts';
import type { KubeAnswer, KubeApi } from './kube-api.ts';
import type { WebhookCertificate } from './server.ts';

export interface CertificatePlaces {
  readonly namespace: string;
  /** The Secret. */
  readonly secret: string;
  /** The MutatingWebhookConfiguration. */
  readonly configuration: string;
  /** The server's name: `SERVICE.NAMESPACE.svc`. */
  readonly name: string;
  /** How long a certificate is valid. */
  readonly validityMs: number;
}

interface WithKey {
  /** PEM both. */
  readonly cert: string;
  readonly key: string;
}

export interface CertificateTools {
  makeAuthority(times: Validity): WithKey;
  makeServerCertificate(authority: WithKey, wish: Validity & { readonly names: readonly string[] }): WithKey;
  /** Undefined when it is none that could sign. */
  inspectAuthority(given: WithKey): Validity | undefined;
  /** Undefined when that authority has not signed it, for that name. */
  inspectServerCertificate(
    given: WithKey,
    from: { readonly name: string; readonly authority: string },
  ): Validity | undefined;
  /** The certificates of a bundle that have not expired. */
  validAuthorities(bundle: string, nowMs: number): readonly string[];
}

export interface CertificateKeeperParts {
  readonly clock: Clock;
  readonly api: KubeApi;
  readonly tools: CertificateTools;
  /** What happened: `certificate-` and `made`, `renewed`, `prepared`, `promoted`, `restored`, `trusted`, `waiting`. */
  readonly say: (event: string, about: Readonly<Record<string, unknown>>, isTrouble: boolean) => void;
}

/** Members of the Secret: the first three as every Secret of a certificate has them. Empty where they are not there. */
interface SecretData {
  /** Every authority that is to be trusted: the one that signs, the next one, those that were before and have not expired. */
  readonly 'ca.crt': string;
  readonly 'tls.crt': string;
  readonly 'tls.key': string;
  readonly 'authority.crt': string;
  readonly 'authority.key': string;
  readonly 'next-authority.crt': string;
  readonly 'next-authority.key': string;
}

interface ReadSecret {
  readonly object: JsonObject;
  readonly data: SecretData;
}

const attemptsMax = 8;
const waitMsMin = 200;
const waitMsMax = 10_000;

export class CertificateKeeper {
  readonly #parts: CertificateKeeperParts;
  readonly #places: CertificatePlaces;
  /** What is served with. */
  #current: WebhookCertificate | undefined;
  /** What the Secret held when it was good last. */
  #held: SecretData | undefined;
  #failure: unknown;

  constructor(parts: CertificateKeeperParts, places: CertificatePlaces) {
    this.#parts = parts;
    this.#places = places;
  }

  /** What to serve with. Rejects with what went wrong when it was looked at last, so that it is said; the server keeps what it has. */
  async read(): Promise<WebhookCertificate> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#current === undefined) throw new HoldfastError('E_INTERNAL', 'the certificate was not kept yet');
    return this.#current;
  }

  /** Every authority that is to be trusted, PEM: for who is not told by the configuration. */
  async readAuthorities(): Promise<string> {
    await this.read();
    return this.#held?.['ca.crt'] ?? '';
  }

  /** Until there is a certificate that API servers trust: a server that they cannot speak to is not ready. E_ABORTED. */
  async start(signal: AbortSignal): Promise<void> {
    let said = '';
    for (let waitMs = waitMsMin; ; waitMs = Math.min(waitMs * 2, waitMsMax)) {
      await this.look(signal);
      if (this.#failure === undefined) return;
      const { message, remedy } = asError(this.#failure);
      if (message !== said) this.#parts.say('waiting', { message, remedy }, true);
      said = message;
      await this.#parts.clock.wait(waitMs, { signal });
    }
  }

  /** Goes on until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    // Sixty requests an hour and replica of a certificate that lives for months; a short one is looked at as often as it needs.
    const everyMs = Math.min(60_000, Math.max(500, this.#places.validityMs / 100));
    try {
      for (;;) {
        await this.#parts.clock.wait(everyMs, { signal });
        await this.look(signal);
      }
    } catch (error) {
      if (!isHoldfastError(error, 'E_ABORTED')) throw error;
    }
  }

  /** One look, and what follows from it. Rejects with E_ABORTED only; what else goes wrong is kept for `read`. */
  async look(signal: AbortSignal): Promise<void> {
    try {
      this.#current = await this.#lookOnce(signal);
      this.#failure = undefined;
    } catch (error) {
      if (isHoldfastError(error, 'E_ABORTED')) throw error;
      this.#failure = error;
    }
  }

  async #lookOnce(signal: AbortSignal): Promise<WebhookCertificate> {
    const { clock } = this.#parts;
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const secret = await this.#readSecret(signal);
      const kept = this.#kept(secret.data);
      // What is in the Secret is trusted first, whatever comes then: a certificate comes into use only behind its authority.
      if (kept.server !== undefined) await this.#trust(secret.data['ca.crt'], signal);
      const plan = planCertificates(kept, { nowMs: clock.nowMs(), validityMs: this.#places.validityMs });
      if (plan === 'keep' && kept.server !== undefined) {
        this.#held = secret.data;
        return { cert: secret.data['tls.crt'], key: secret.data['tls.key'], validUntilMs: kept.server.validUntilMs };
      }
      const held = plan === 'make' ? this.#stillGood() : undefined;
      const data = held ?? this.#carriedOut(plan, secret.data);
      const event = held === undefined ? eventOf[plan] : 'restored';
      if (await this.#write(secret, data, signal)) this.#parts.say(event, { secret: this.#places.secret }, false);
    }
    throw new HoldfastError('E_CLUSTER_REFUSED', 'the Secret of the certificate is written again and again by others', {
      remedy: `Look who else writes the Secret ${this.#places.namespace}/${this.#places.secret}.`,
    });
  }

  #kept(data: SecretData): KeptCertificates {
    const { tools } = this.#parts;
    const authority = pairIn(data, 'authority');
    const server = pairIn(data, 'tls');
    const next = pairIn(data, 'next-authority');
    const isTrusted = (cert: string): boolean => data['ca.crt'].includes(cert.trim());
    return {
      authority: authority && isTrusted(authority.cert) ? tools.inspectAuthority(authority) : undefined,
      next: next && isTrusted(next.cert) ? tools.inspectAuthority(next) : undefined,
      server:
        authority && server
          ? tools.inspectServerCertificate(server, { name: this.#places.name, authority: authority.cert })
          : undefined,
    };
  }

  /** A Secret that somebody has emptied gets back what this server goes on serving with, so that no review fails meanwhile. */
  #stillGood(): SecretData | undefined {
    const held = this.#held;
    if (held === undefined) return undefined;
    const { authority, server } = this.#kept(held);
    const nowMs = this.#parts.clock.nowMs();
    return Math.min(authority?.validUntilMs ?? 0, server?.validUntilMs ?? 0) > nowMs ? held : undefined;
  }

  #carriedOut(plan: CertificatePlan, data: SecretData): SecretData {
    const [authority, next] = [pairIn(data, 'authority'), pairIn(data, 'next-authority')];
    if (plan === 'renew' && authority !== undefined) return this.#signed(data, authority);
    if (plan === 'promote' && next !== undefined) {
      return this.#signed({ ...data, ...withPair('authority', next), ...withPair('next-authority', undefined) }, next);
    }
    const made = this.#newAuthority();
    const valid = this.#parts.tools.validAuthorities(data['ca.crt'], this.#parts.clock.nowMs());
    const trusted = { ...data, 'ca.crt': [...valid, made.cert].join('') };
    if (plan === 'prepare') return { ...trusted, ...withPair('next-authority', made) };
    return this.#signed({ ...trusted, ...withPair('authority', made), ...withPair('next-authority', undefined) }, made);
  }

  #signed(data: SecretData, authority: WithKey): SecretData {
    const times = this.#timesFor(this.#places.validityMs);
    const made = this.#parts.tools.makeServerCertificate(authority, { names: [this.#places.name], ...times });
    return { ...data, ...withPair('tls', made) };
  }

  #newAuthority(): WithKey {
    return this.#parts.tools.makeAuthority(this.#timesFor(authorityValidityMs(this.#places.validityMs)));
  }

  #timesFor(validityMs: number): Validity {
    const nowMs = this.#parts.clock.nowMs();
    return { validFromMs: nowMs - backdatedMs, validUntilMs: nowMs + validityMs };
  }

  async #readSecret(signal: AbortSignal): Promise<ReadSecret> {
    const answer = await this.#parts.api.request('GET', this.#secretPath, { signal });
    const object = this.#objectOf(answer, `read the Secret ${this.#places.namespace}/${this.#places.secret}`);
    const given = member(object, 'data');
    const text = (key: keyof SecretData): string => {
      const value = isObject(given) ? member(given, key) : undefined;
      return typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : '';
    };
    const data = {
      'ca.crt': text('ca.crt'),
      'tls.crt': text('tls.crt'),
      'tls.key': text('tls.key'),
      'authority.crt': text('authority.crt'),
      'authority.key': text('authority.key'),
      'next-authority.crt': text('next-authority.crt'),
      'next-authority.key': text('next-authority.key'),
    };
    return { object, data };
  }

  /** False when somebody else has written it meanwhile. */
  async #write({ object }: ReadSecret, data: SecretData, signal: AbortSignal): Promise<boolean> {
    const encoded = Object.fromEntries(
      Object.entries(data)
        .filter(([, value]) => value !== '')
        .map(([key, value]) => [key, Buffer.from(value, 'utf8').toString('base64')]),
    );
    const answer = await this.#parts.api.request('PUT', this.#secretPath, {
      // With the resourceVersion that was read: 409 when it is not the one that is there.
      body: { ...object, data: encoded },
      signal,
    });
    if (answer.status === 409) return false;
    this.#objectOf(answer, `update the Secret ${this.#places.namespace}/${this.#places.secret}`);
    return true;
  }

  /** Makes every webhook of the configuration that leads to this server trust these CAs. */
  async #trust(bundle: string, signal: AbortSignal): Promise<void> {
    const wanted = Buffer.from(bundle, 'utf8').toString('base64');
    const path = `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${encodeURIComponent(this.#places.configuration)}`;
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const answer = await this.#parts.api.request('GET', path, { signal });
      const object = this.#objectOf(answer, `read the MutatingWebhookConfiguration ${this.#places.configuration}`);
      const patch = trustPatch(object, wanted);
      if (patch.length === 0) return;
      const patched = await this.#parts.api.request('PATCH', path, {
        body: patch,
        contentType: 'application/json-patch+json',
        signal,
      });
      // Somebody has moved the webhooks since they were read.
      if (patched.status === 409 || patched.status === 422) continue;
      this.#objectOf(patched, `patch the MutatingWebhookConfiguration ${this.#places.configuration}`);
      this.#parts.say('trusted', { configuration: this.#places.configuration }, false);
      return;
    }
    throw new HoldfastError('E_CLUSTER_REFUSED', 'the CA cannot be put into the webhook configuration', {
      remedy: `Look who else changes the MutatingWebhookConfiguration ${this.#places.configuration}, and what the API server has against the change.`,
    });
  }

  get #secretPath(): string {
    const { namespace, secret } = this.#places;
    return `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets/${encodeURIComponent(secret)}`;
  }

  #objectOf({ status, object }: KubeAnswer, doing: string): JsonObject {
    if (status >= 200 && status < 300 && isObject(object as Json)) return object as JsonObject;
    const said = isObject(object as Json) ? member(object as JsonObject, 'message') : undefined;
    const remedy =
      status === 404
        ? 'The chart makes it: upgrade the release, or make it by hand.'
        : status === 401 || status === 403
          ? 'The chart gives the ServiceAccount this right: look whether its Role and ClusterRole are there (rbac.create).'
          : 'Look what the API server says.';
    const because = typeof said === 'string' ? `: ${said.slice(0, 300)}` : '';
    throw new HoldfastError('E_CLUSTER_REFUSED', `cannot ${doing} (status ${status})${because}`, { remedy });
  }
}

const eventOf: Readonly<Record<CertificatePlan, string>> = {
  keep: 'kept',
  make: 'made',
  renew: 'renewed',
  prepare: 'prepared',
  promote: 'promoted',
};

type PairName = 'authority' | 'next-authority' | 'tls';

function pairIn(data: SecretData, name: PairName): WithKey | undefined {
  const [cert, key] = [data[`${name}.crt`], data[`${name}.key`]];
  return cert === '' || key === '' ? undefined : { cert, key };
}

function withPair(name: PairName, pair: WithKey | undefined): Partial<SecretData> {
  return { [`${name}.crt`]: pair?.cert ?? '', [`${name}.key`]: pair?.key ?? '' };
}

/** JSON Patch (RFC 6902); each change is bound to the name that was read at that place. */
function trustPatch(configuration: JsonObject, wanted: string): readonly JsonObject[] {
  const webhooks = member(configuration, 'webhooks');
  if (!Array.isArray(webhooks)) return [];
  return (webhooks as readonly Json[]).flatMap((webhook, at) => {
    const client = isObject(webhook) ? member(webhook, 'clientConfig') : undefined;
    if (!isObject(webhook) || !isObject(client) || member(client, 'caBundle') === wanted) return [];
    const place = pointer('webhooks', String(at));
    return [
      { op: 'test', path: `${place}/name`, value: member(webhook, 'name') ?? '' },
      { op: 'add', path: `${place}/clientConfig/caBundle`, value: wanted },
    ];
  });
}

function asError(error: unknown): { readonly message: string; readonly remedy: string | undefined } {
  if (error instanceof HoldfastError) return error;
  return { message: error instanceof Error ? error.message : String(error), remedy: undefined };
}
