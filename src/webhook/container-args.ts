/** The command lines of the injected containers, in the forms of docs/cli.md. */
import { keyFile, serviceCaFile, serviceTokenFile, stateDirectory, volumePath } from '../contract/pod-layout.ts';
import type { Injection, Lineage } from './decision.ts';
import type { WebhookSettings } from './settings.ts';

/** Variables that the kubelet fills in when the pod runs, and puts into arguments where they are named as `$(NAME)`. */
export const runtimeVariables: Readonly<
  Record<'HOLDFAST_POD_UID' | 'HOLDFAST_POD_NAME' | 'HOLDFAST_NODE_NAME', string>
> = {
  HOLDFAST_POD_UID: 'metadata.uid',
  HOLDFAST_POD_NAME: 'metadata.name',
  HOLDFAST_NODE_NAME: 'spec.nodeName',
};

/** Text as it is: what somebody wrote into an annotation names no variable. */
function literal(text: string): string {
  return text.replaceAll('$', '$$$$');
}

function option(name: string, text: string | undefined): readonly string[] {
  return text === undefined ? [] : [`--${name}`, literal(text)];
}

function lineageArgument({ workload, slot }: Lineage): string {
  // The slots of replicas lie below the name of their workload.
  if (slot.by === 'claimed' || slot.by === 'seed') return literal(workload);
  return `${literal(workload)}/${slot.by === 'node' ? '$(HOLDFAST_NODE_NAME)' : literal(slot.slot)}`;
}

function commonArgs({ store, lineage, volumes }: Injection): readonly string[] {
  return [
    ...option('store', store.address),
    ...(store.encrypted ? option('key-file', keyFile) : option('encryption', 'none')),
    '--lineage',
    lineageArgument(lineage),
    ...volumes.flatMap(({ name }) => option('volume', `${name}=${volumePath(name)}`)),
    ...option('state-dir', stateDirectory),
    '--pod-uid',
    '$(HOLDFAST_POD_UID)',
    '--pod-name',
    '$(HOLDFAST_POD_NAME)',
  ];
}

function serviceArgs({ service }: WebhookSettings): readonly string[] {
  return [
    ...option('service', service?.url),
    ...option('service-token-file', service && serviceTokenFile),
    ...option('service-ca-file', service?.caConfigMap && serviceCaFile),
  ];
}

function slotArgs({ slot }: Lineage): readonly string[] {
  if (slot.by === 'seed') return ['--slots', 'seed'];
  if (slot.by !== 'claimed') return [];
  return ['--slots', 'claim', '--replicas', String(slot.replicas), ...option('when-held', slot.whenHeld)];
}

function sizeLimits({ volumes }: Injection): readonly string[] {
  return volumes.flatMap(({ name, sizeLimitBytes }) =>
    option('size-limit', sizeLimitBytes === undefined ? undefined : `${name}=${sizeLimitBytes}`),
  );
}

export function rehydrateArgs(injection: Injection, settings: WebhookSettings): readonly string[] {
  const { noData, handoffWait, volumes, lineage, restoreAt } = injection;
  return [
    ...commonArgs(injection),
    ...slotArgs(lineage),
    ...serviceArgs(settings),
    ...option('restore-at', restoreAt),
    ...sizeLimits(injection),
    // Globs that are meant for one volume do no harm in another: they only order.
    ...[...new Set(volumes.flatMap(({ restoreFirst }) => restoreFirst))].flatMap((glob) =>
      option('restore-first', glob),
    ),
    ...option('on-first-boot', noData.firstBoot),
    ...option('on-missing', noData.missing),
    ...option('on-unreachable', noData.unreachable),
    ...option('handoff-wait', handoffWait),
  ];
}

export function agentArgs(injection: Injection, settings: WebhookSettings): readonly string[] {
  const { schedule, rpo, graceSeconds, selection, hooks, hookTimeout } = injection;
  const hasHooks = Object.values(hooks).some((address) => address !== undefined);
  return [
    ...commonArgs(injection),
    ...serviceArgs(settings),
    ...sizeLimits(injection),
    ...selection.include.flatMap((glob) => option('include', glob)),
    ...selection.exclude.flatMap((glob) => option('exclude', glob)),
    ...option('schedule', schedule),
    ...option('rpo', rpo),
    ...option('hook-pre-checkpoint', hooks.preCheckpoint),
    ...option('hook-post-checkpoint', hooks.postCheckpoint),
    ...option('hook-post-restore', hooks.postRestore),
    ...option('hook-timeout', hasHooks ? hookTimeout : undefined),
    ...option('grace', `${agentGraceSeconds(graceSeconds)}s`),
    ...option('metrics-port', settings.metricsPort?.toString()),
  ];
}

/**
 * What an agent may count on from its first notice on. It is killed about when the grace is over, so a part is left for what is on
 * its way then; of a short grace less.
 */
function agentGraceSeconds(graceSeconds: number): number {
  return Math.max(1, graceSeconds - Math.min(5, Math.ceil(graceSeconds / 5)));
}

export const notifyCommand: readonly string[] = ['holdfast', 'notify', '--state-dir', stateDirectory];

/** Of the startup probe of who waits for the agent. */
export const runningCommand: readonly string[] = ['holdfast', 'status', '--running', '--state-dir', stateDirectory];
