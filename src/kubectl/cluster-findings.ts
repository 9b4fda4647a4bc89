/** What the facts about a cluster mean for those who rely on Holdfast in it. Pure: `doctor` asks, this judges. */
import { type Finding, finding } from '../cli/findings.ts';
import { isObject, type JsonObject } from '../webhook/json.ts';
import { objectsAt, textAt, valueAt } from './objects.ts';

/** Native sidecars are on by default from 1.29 on. */
export const minorMin = 29;

/** `gitVersion` of the API server, and of each node's kubelet. */
export function versionFindings(
  server: string,
  kubelets: readonly { node: string; version: string }[],
): readonly Finding[] {
  const remedy = `Kubernetes 1.${minorMin} or newer is needed: the agent is an init container that stays.`;
  const old = kubelets.filter(({ version }) => isOld(version));
  return [
    isOld(server)
      ? finding('kubernetes', 'failed', `the API server is ${server}`, remedy)
      : finding('kubernetes', 'ok', `the API server is ${server}`),
    old.length === 0
      ? finding('nodes', kubelets.length === 0 ? 'unknown' : 'ok', nodesText(kubelets))
      : finding(
          'nodes',
          'failed',
          `${old.length} of ${kubelets.length} kubelets are too old: ${old
            .slice(0, 5)
            .map(({ node, version }) => `${node} (${version})`)
            .join(', ')}`,
          `${remedy} Keep protected pods off these nodes, or upgrade them.`,
        ),
  ];
}

function nodesText(kubelets: readonly { node: string; version: string }[]): string {
  if (kubelets.length === 0) return 'not told';
  const versions = [...new Set(kubelets.map(({ version }) => version))].sort();
  return `${kubelets.length} kubelets of ${versions.join(', ')}`;
}

/** What cannot be read counts as old. */
function isOld(version: string): boolean {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  const isNew = Number(major) > 1 || (Number(major) === 1 && Number(minor) >= minorMin);
  return !isNew;
}

const installRemedy = 'Install the chart: helm install holdfast charts/holdfast --values values.yaml.';

/** The registration of the webhook. `nowMs` by this machine; `authorities`: of its bundle, the ends of their validity. */
export function registrationFindings(
  configuration: JsonObject | undefined,
  { nowMs, authoritiesUntilMs }: { readonly nowMs: number; readonly authoritiesUntilMs: readonly number[] },
): readonly Finding[] {
  if (configuration === undefined) {
    return [finding('webhook', 'failed', 'no webhook of Holdfast is registered', installRemedy)];
  }
  const [webhook] = objectsAt(configuration, 'webhooks');
  const policy = textAt(webhook, 'failurePolicy') || 'Fail';
  const findings = [
    policy === 'Fail'
      ? finding('webhook', 'ok', 'registered; pods that opted in wait while it is down (failurePolicy: Fail)')
      : finding(
          'webhook',
          'warning',
          'registered; while it is down pods that opted in start empty and unprotected (failurePolicy: Ignore)',
          'Set webhook.failurePolicy: Fail, unless starting without data is better than not starting.',
        ),
  ];
  const latest = Math.max(...authoritiesUntilMs);
  const certificateRemedy =
    "Look at the log of the webhook (certificate-waiting), or at cert-manager's Certificate: the API server trusts nothing that it serves.";
  if (authoritiesUntilMs.length === 0) {
    findings.push(finding('certificate', 'failed', 'the registration has no CA (caBundle)', certificateRemedy));
  } else if (latest < nowMs) {
    findings.push(
      finding('certificate', 'failed', `the CA has expired ${daysText(nowMs - latest)} ago`, certificateRemedy),
    );
  } else if (latest - nowMs < 14 * 86_400_000) {
    findings.push(
      finding('certificate', 'warning', `the CA expires in ${daysText(latest - nowMs)}`, certificateRemedy),
    );
  } else {
    findings.push(finding('certificate', 'ok', `the CA is valid for ${daysText(latest - nowMs)}`));
  }
  return findings;
}

function daysText(ms: number): string {
  const days = ms / 86_400_000;
  return days >= 2 ? `${Math.floor(days)} days` : `${Math.max(0, Math.round(ms / 3_600_000))} hours`;
}

export function replicaFinding(deployment: JsonObject | undefined): Finding {
  if (deployment === undefined)
    return finding('replicas', 'failed', 'the Deployment of the webhook is not there', installRemedy);
  const wanted = numberAt(deployment, 'spec', 'replicas') ?? 1;
  const ready = numberAt(deployment, 'status', 'readyReplicas') ?? 0;
  const said = `${ready} of ${wanted} replicas are ready`;
  const remedy = 'Look at its pods: kubectl get pods -l app.kubernetes.io/component=webhook, and at their events.';
  if (ready === 0) return finding('replicas', 'failed', said, remedy);
  if (ready < wanted) return finding('replicas', 'warning', said, remedy);
  return wanted > 1
    ? finding('replicas', 'ok', said)
    : finding(
        'replicas',
        'warning',
        said,
        'Run two: while a single one is moved, pods that opted in cannot be created.',
      );
}

function numberAt(object: JsonObject, ...path: readonly string[]): number | undefined {
  const value = valueAt(object, ...path);
  return typeof value === 'number' ? value : undefined;
}

/** Of a pod that was only tried (dryRun): whether the API server reached the webhook, and what it made of the pod. */
export function reachFinding(answer: { readonly status: number; readonly object: unknown }): Finding {
  const object = isObject(answer.object as never) ? (answer.object as JsonObject) : {};
  const message = textAt(object, 'message').slice(0, 600);
  if (answer.status === 201 || answer.status === 200) {
    return textAt(object, 'metadata', 'annotations', 'holdfast.dev/status') === ''
      ? finding(
          'admission',
          'failed',
          'a pod that opts in is created without protection',
          'Look whether the namespace is excluded, and whether failurePolicy is Ignore while no webhook answers.',
        )
      : finding('admission', 'ok', 'a pod that opts in is injected into (tried, not created)');
  }
  if (/failed calling webhook/.test(message)) {
    return finding(
      'admission',
      'failed',
      `the API server does not reach the webhook: ${message}`,
      'Look at its Service and Endpoints, at network policies, and at firewalls between control plane and nodes (webhook.port).',
    );
  }
  if (/^admission webhook .* denied the request/.test(message) || message.includes('holdfast:')) {
    return finding('admission', 'ok', `the webhook answers, and refuses the trial pod: ${message}`);
  }
  return finding(
    'admission',
    'unknown',
    `the trial pod is refused by others: ${message || `status ${answer.status}`}`,
    'Give a namespace in which you may create pods: -n NAME.',
  );
}

const skewMsWarned = 60_000;

export function clusterClockFinding(serverMs: number | undefined, nowMs: number): Finding {
  if (serverMs === undefined) return finding('clock', 'unknown', 'the API server does not tell its time');
  const seconds = Math.round(Math.abs(serverMs - nowMs) / 1000);
  // It tells whole seconds, and the answer has taken its time.
  if (seconds <= 3) return finding('clock', 'ok', "the API server's clock is equal to this one");
  const said = `the API server's clock is ${seconds} s ${serverMs > nowMs ? 'ahead of' : 'behind'} this one`;
  const remedy = 'Set the clocks right, by NTP: certificates, tokens and the ages of checkpoints depend on them.';
  return finding('clock', seconds * 1000 < skewMsWarned ? 'ok' : 'warning', said, remedy);
}

/** Rights that the plugin's commands need, and whether the caller has them. */
export function rightsFinding(
  rights: readonly { readonly right: string; readonly allowed: boolean; readonly for: string }[],
): Finding {
  const missing = rights.filter(({ allowed }) => !allowed);
  if (missing.length === 0) return finding('your rights', 'ok', 'all that these commands need');
  return finding(
    'your rights',
    'warning',
    `missing: ${missing.map(({ right, for: command }) => `${right} (${command})`).join(', ')}`,
    'Have them given to you, or leave those commands to somebody who has them.',
  );
}

/** Pods that ask for protection and have none. */
export function unprotectedFinding(unprotected: readonly string[], opted: number): Finding {
  if (unprotected.length === 0) return finding('pods', 'ok', `${opted} pods ask for protection, and have it`);
  return finding(
    'pods',
    'failed',
    `${unprotected.length} of ${opted} pods that ask for protection have none: ${unprotected.slice(0, 5).join(', ')}${unprotected.length > 5 ? ', …' : ''}`,
    'They were created while the webhook did not answer, or before they opted in: kubectl rollout restart their workloads.',
  );
}
