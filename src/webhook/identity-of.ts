/**
 * Which user the injected containers run as: that of the application, so that they read its files and give them back as they were.
 * Kubernetes shows at admission what the pod says, never the USER of an image.
 */
import { annotationPrefix } from '../contract/annotations.ts';
import type { Identity, KeptVolume, Refusal } from './decision.ts';
import type { EffectiveAnnotations } from './effective.ts';
import type { Container, Pod } from './pod.ts';
import type { WebhookSettings } from './settings.ts';

const annotation = `${annotationPrefix}run-as-user`;

export function identityOf(
  pod: Pod,
  kept: readonly KeptVolume[],
  effective: EffectiveAnnotations,
  settings: WebhookSettings,
): Identity | Refusal {
  const writers = writersOf(pod, kept);
  const seLinuxOptions = writers.find(({ securityContext }) => securityContext.seLinuxOptions !== undefined)
    ?.securityContext.seLinuxOptions;
  const users = distinct(
    writers.map(({ securityContext }) => securityContext.runAsUser ?? pod.securityContext.runAsUser),
  );
  const groups = distinct(
    writers.map(({ securityContext }) => securityContext.runAsGroup ?? pod.securityContext.runAsGroup),
  );
  const demandsNonRoot =
    pod.securityContext.runAsNonRoot === true ||
    writers.some(({ securityContext }) => securityContext.runAsNonRoot === true);
  const chosen = effective.find('run-as-user');
  const group = effective.find('run-as-group');
  const ownGroup = group?.from === 'pod' ? group.value : groups.length === 1 ? groups[0] : undefined;

  const as = (user: number | undefined, otherwiseGroup?: number): Identity | Refusal => {
    if (user === 0 && pod.securityContext.runAsNonRoot === true) {
      return {
        annotation: chosen === undefined ? 'spec.securityContext.runAsNonRoot' : annotation,
        value: chosen?.text ?? 'true',
        reason: 'the pod demands that nothing in it runs as root',
        remedy: `Give the user id that the application runs as: ${annotation}: "1000".`,
      };
    }
    return { user, group: ownGroup ?? otherwiseGroup, asRoot: user === 0, seLinuxOptions };
  };

  if (chosen?.from === 'pod') return as(chosen.value);
  if (users.length > 1) {
    const text = users.map((user) => user ?? 'that of the image').join(' and ');
    if (demandsNonRoot || settings.unknownUser === 'refuse') {
      return {
        annotation: 'spec.containers',
        value: writers.map(({ name }) => name).join(', '),
        reason: `the containers that write the kept volumes run as different users (${text}), which only root can keep apart`,
        remedy: `Run them as one user, or say which one owns the files: ${annotation}: "1000".`,
      };
    }
    return as(0);
  }
  const [user] = users;
  if (user !== undefined) return as(user);
  // A namespace of OpenShift has a range of users, of which every container gets the same one.
  if (settings.platform === 'openshift') return as(undefined);
  if (chosen !== undefined) return as(chosen.value, group?.value);
  if (demandsNonRoot || settings.unknownUser === 'refuse') {
    return {
      annotation,
      value: '',
      reason: 'the user that the application runs as stands in its image only, which is not known here',
      remedy: `Give it: ${annotation}: "1000", or runAsUser in the securityContext of the pod.`,
    };
  }
  return as(0);
}

/** Containers that can write a kept volume; where none can, those that mount one. */
function writersOf(pod: Pod, kept: readonly KeptVolume[]): readonly Container[] {
  const names = new Set<string>(kept.map(({ name }) => name));
  const mounting = (isWriter: boolean): readonly Container[] =>
    [...pod.containers, ...pod.initContainers].filter(({ mounts }) =>
      mounts.some(({ volume, readOnly }) => names.has(volume) && !(isWriter && readOnly)),
    );
  const writers = mounting(true);
  return writers.length > 0 ? writers : mounting(false);
}

function distinct(values: readonly (number | undefined)[]): readonly (number | undefined)[] {
  return [...new Set(values)];
}
