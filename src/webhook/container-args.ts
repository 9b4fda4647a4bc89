/** The command lines of the injected containers, in the forms of docs/cli.md. */
import { keyFile, stateDirectory, volumePath } from '../contract/pod-layout.ts';
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

/** Name of the lineage; without its slot where that is chosen when the pod runs. */
export function lineageArgument({ workload, slot }: Lineage): string {
  if (slot.by === 'fixed') return `${literal(workload)}/${literal(slot.slot)}`;
  return slot.by === 'node' ? `${literal(workload)}/$(HOLDFAST_NODE_NAME)` : literal(workload);
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
  ];
}

export function rehydrateArgs(injection: Injection, { service }: WebhookSettings): readonly string[] {
  const { noData, handoffWait } = injection;
  return [
    ...commonArgs(injection),
    '--pod-name',
    '$(HOLDFAST_POD_NAME)',
    ...option('service', service?.url),
    ...option('on-first-boot', noData.firstBoot),
    ...option('on-missing', noData.missing),
    ...option('on-unreachable', noData.unreachable),
    ...option('handoff-wait', handoffWait),
  ];
}

export function agentArgs(injection: Injection): readonly string[] {
  const { schedule, rpo, graceSeconds } = injection;
  return [
    ...commonArgs(injection),
    ...option('schedule', schedule),
    ...option('rpo', rpo),
    ...option('grace', `${graceSeconds}s`),
  ];
}

export const notifyCommand: readonly string[] = ['holdfast', 'notify', '--state-dir', stateDirectory];
