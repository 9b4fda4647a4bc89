/** Holdfast's service in the cluster, as `--service` and the options beside it name it. */
import type { Anchors } from '../engine/ports/anchors.ts';
import type { Liveness } from '../engine/ports/liveness.ts';
import type { Host, ServiceAddress } from './host.ts';
import type { Parsed } from './options.ts';

function serviceOf(parsed: Parsed): ServiceAddress | undefined {
  const address = parsed.text('service');
  if (address === undefined || address === '') return undefined;
  return {
    address,
    tokenFile: parsed.text('service-token-file'),
    caFile: parsed.text('service-ca-file'),
    ca: parsed.text('service-ca'),
  };
}

/** Without a service nobody is known to be gone, and whoever is not counts as alive. */
export async function livenessOf(host: Host, parsed: Parsed, onSilent: (reason: string) => void): Promise<Liveness> {
  const service = serviceOf(parsed);
  return service === undefined
    ? { isGone: async () => 'unknown' }
    : await host.openGoneService({ ...service, onSilent });
}

/** Without a service nothing is expected of a store, and nothing is kept outside of it. */
export async function anchorsOf(
  host: Host,
  parsed: Parsed,
  onSilent: (reason: string) => void,
): Promise<Anchors | undefined> {
  const service = serviceOf(parsed);
  return service === undefined ? undefined : await host.openAnchorService({ ...service, onSilent });
}
