/** Reviews whose answers are kept in golden/: one for each thing that the webhook has to get right. */
import type { Json, JsonObject } from '../../src/webhook/json.ts';
import { containerOf, ofDeployment, ownedBy, podOf, reviewOf } from './pods.ts';

export interface Case {
  /** Name of the file. */
  readonly name: string;
  readonly about: string;
  readonly settings?: JsonObject;
  readonly review: JsonObject;
}

const restricted = { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } };
const irsa = {
  env: [
    { name: 'AWS_ROLE_ARN', value: 'arn:aws:iam::123456789012:role/team-a' },
    { name: 'AWS_WEB_IDENTITY_TOKEN_FILE', value: '/var/run/secrets/eks.amazonaws.com/serviceaccount/token' },
    { name: 'AWS_REGION', value: 'eu-central-1' },
    { name: 'AWS_SECRET_ACCESS_KEY', value: 'not copied' },
  ],
  volumeMounts: [
    { name: 'data', mountPath: '/var/lib/app' },
    { name: 'aws-iam-token', mountPath: '/var/run/secrets/eks.amazonaws.com/serviceaccount', readOnly: true },
  ],
};
const irsaVolume = {
  name: 'aws-iam-token',
  projected: {
    sources: [{ serviceAccountToken: { audience: 'sts.amazonaws.com', expirationSeconds: 86_400, path: 'token' } }],
  },
};
const pem =
  '-----BEGIN CERTIFICATE-----\nTm8gY2VydGlmaWNhdGUsIGJ1dCBpbiB0aGUgZm9ybSBvZiBvbmU=\n-----END CERTIFICATE-----\n';
const s3 = { address: 's3://checkpoints/prod', namespaces: ['*'] };
const data: Json = { name: 'data', emptyDir: {} };

function stateful(more: JsonObject = {}): JsonObject {
  return ownedBy('StatefulSet', 'db', {
    generateName: 'db-',
    name: 'db-2',
    labels: { 'apps.kubernetes.io/pod-index': '2', 'statefulset.kubernetes.io/pod-name': 'db-2' },
    ...more,
  });
}

export const cases: readonly Case[] = [
  {
    name: 'deployment',
    about: 'A Deployment without a word on users: one slot, root with four capabilities, everything else built in.',
    review: reviewOf(podOf({ metadata: ofDeployment(), spec: { securityContext: {} } })),
  },
  {
    name: 'statefulset-restricted',
    about: 'PodSecurity restricted: the user of the container, the ordinal as slot, Secrets readable through fsGroup.',
    review: reviewOf(
      podOf({
        metadata: stateful(),
        annotations: { schedule: '30s', rpo: '2m', 'exclude.data': '*.tmp', 'on-unreachable': 'block:10m' },
        spec: {
          securityContext: { ...restricted, fsGroup: 2000 },
          containers: [
            containerOf('db', {
              securityContext: {
                runAsUser: 70,
                runAsGroup: 70,
                seLinuxOptions: { level: 's0:c1,c2' },
                allowPrivilegeEscalation: false,
                capabilities: { drop: ['ALL'] },
              },
              volumeMounts: [{ name: 'data', mountPath: '/var/lib/db', subPath: 'db' }],
            }),
          ],
        },
      }),
    ),
  },
  {
    name: 'mesh-and-init',
    about: 'Behind the proxy of the mesh, before the init containers and sidecars of the user, which keep their order.',
    review: reviewOf(
      podOf({
        metadata: ofDeployment(),
        spec: {
          initContainers: [
            { name: 'istio-init', image: 'istio/proxyv2' },
            { name: 'istio-proxy', image: 'istio/proxyv2', restartPolicy: 'Always' },
            containerOf('migrate'),
            containerOf('shipper', { restartPolicy: 'Always' }),
          ],
        },
      }),
    ),
  },
  {
    name: 'start-after',
    about: 'An init container that the pod names runs before the restore, beside one that the settings name.',
    settings: { startAfter: ['network-ready'] },
    review: reviewOf(
      podOf({
        annotations: { 'start-after': 'vault-agent-init' },
        spec: {
          initContainers: [
            { name: 'network-ready', image: 'x' },
            { name: 'vault-agent-init', image: 'x' },
            { name: 'own', image: 'x' },
          ],
        },
      }),
    ),
  },
  {
    name: 'irsa',
    about: 'What the webhook of IRSA gave to the application is copied, but no secret; the node is no fallback.',
    settings: { stores: { default: s3 } },
    review: reviewOf(podOf({ spec: { containers: [containerOf('app', irsa)], volumes: [data, irsaVolume] } })),
  },
  {
    name: 'pod-identity',
    about: 'The same of EKS Pod Identity.',
    settings: { stores: { default: s3 } },
    review: reviewOf(
      podOf({
        spec: {
          containers: [
            containerOf('app', {
              env: [
                { name: 'AWS_CONTAINER_CREDENTIALS_FULL_URI', value: 'http://169.254.170.23/v1/credentials' },
                {
                  name: 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
                  value: '/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token',
                },
              ],
              volumeMounts: [
                { name: 'data', mountPath: '/var/lib/app' },
                {
                  name: 'eks-pod-identity-token',
                  mountPath: '/var/run/secrets/pods.eks.amazonaws.com/serviceaccount',
                  readOnly: true,
                },
              ],
            }),
          ],
          volumes: [data, { ...irsaVolume, name: 'eks-pod-identity-token' }],
        },
      }),
    ),
  },
  {
    name: 'no-credentials',
    about: 'A bucket that nothing gives credentials for is a warning.',
    settings: { stores: { default: s3 } },
    review: reviewOf(podOf()),
  },
  {
    name: 'job-indexed',
    about: 'The completion index is the slot.',
    review: reviewOf(
      podOf({
        metadata: ownedBy('Job', 'render', { labels: { 'batch.kubernetes.io/job-name': 'render' } }),
        otherAnnotations: { 'batch.kubernetes.io/job-completion-index': '7' },
      }),
    ),
  },
  {
    name: 'cronjob-override',
    about:
      'Jobs of a CronJob carry on with one lineage where it is named. Cluster and namespace stay those of the request.',
    review: reviewOf(
      podOf({
        metadata: ownedBy('Job', 'report-29401234', { namespace: 'somebody-else' }),
        annotations: { lineage: 'cronjob/report' },
      }),
    ),
  },
  {
    name: 'daemonset',
    about: 'The node is the slot, and known only when the pod runs.',
    review: reviewOf(podOf({ metadata: ownedBy('DaemonSet', 'cache') })),
  },
  {
    name: 'rollout',
    about:
      'A ReplicaSet of Argo Rollouts; two volumes with the same globs, an order of restoring, hooks whose text names no variable.',
    review: reviewOf(
      podOf({
        metadata: ownedBy('ReplicaSet', 'web-6b7c8d', { labels: { 'rollouts-pod-template-hash': '6b7c8d' } }),
        annotations: {
          volumes: 'data,cache',
          'exclude.data': '*.tmp',
          'exclude.cache': '*.tmp',
          'restore-first.cache': 'hot/**',
          'handoff-wait': '45s',
          'hook.pre-checkpoint': 'http://127.0.0.1:8080/quiesce',
          'hook.post-checkpoint': 'http://127.0.0.1:8080/thaw?by=$(HOLDFAST_POD_UID)',
          'hook.post-restore': 'http://127.0.0.1:8080/reload',
        },
        spec: { volumes: [data, { name: 'cache', emptyDir: { sizeLimit: '2Gi' } }] },
      }),
    ),
  },
  {
    name: 'memory-guaranteed',
    about:
      'QoS class Guaranteed stays: limits equal to requests, and room in the restoring one for the volume in memory.',
    review: reviewOf(
      podOf({
        annotations: { 'memory-limit': '200Mi' },
        spec: {
          containers: [
            containerOf('app', {
              resources: { requests: { cpu: '1', memory: '2Gi' }, limits: { cpu: '1000m', memory: '2048Mi' } },
            }),
          ],
          volumes: [{ name: 'data', emptyDir: { medium: 'Memory', sizeLimit: '512Mi' } }],
        },
      }),
    ),
  },
  {
    name: 'pod-level-resources',
    about: 'Resources of the pod as a whole cover the injected containers.',
    review: reviewOf(
      podOf({ spec: { resources: { requests: { cpu: '1', memory: '1Gi' }, limits: { cpu: '2', memory: '2Gi' } } } }),
    ),
  },
  {
    name: 'refused-pod-level-resources',
    about: 'A request that the pod as a whole has no room for, and a limit above its own.',
    review: reviewOf(
      podOf({
        annotations: { 'memory-request': '600Mi', 'memory-limit': '4Gi' },
        spec: {
          resources: { requests: { memory: '1Gi' }, limits: { memory: '2Gi' } },
          containers: [containerOf('app', { resources: { requests: { memory: '512Mi' } } })],
        },
      }),
    ),
  },
  {
    name: 'other-volumes',
    about: 'Generic ephemeral and CSI volumes beside an emptyDir; the autoscaler may remove the node, on request.',
    review: reviewOf(
      podOf({
        annotations: { volumes: 'data,scratch,bucket', 'safe-to-evict': 'true' },
        otherAnnotations: { 'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes': 'tmp,data' },
        spec: {
          volumes: [
            data,
            { name: 'tmp', emptyDir: {} },
            {
              name: 'scratch',
              ephemeral: {
                volumeClaimTemplate: {
                  spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
                },
              },
            },
            { name: 'bucket', csi: { driver: 'inline.example' } },
          ],
          containers: [
            containerOf('app', {
              volumeMounts: ['data', 'scratch', 'bucket'].map((name) => ({ name, mountPath: `/mnt/${name}` })),
            }),
          ],
        },
      }),
    ),
  },
  {
    name: 'refused-volumes',
    about: 'Volumes that cannot be kept, each with its reason, and one that is misspelt.',
    review: reviewOf(
      podOf({
        annotations: { volumes: 'claim,secrets,raw,huge,dta', 'exclude.logs': '*' },
        spec: {
          volumes: [
            data,
            { name: 'claim', persistentVolumeClaim: { claimName: 'x' } },
            { name: 'secrets', csi: { driver: 'secrets-store.csi.k8s.io', readOnly: true } },
            { name: 'raw', ephemeral: { volumeClaimTemplate: { spec: { volumeMode: 'Block' } } } },
            { name: 'huge', emptyDir: { medium: 'HugePages-2Mi' } },
          ],
        },
      }),
    ),
  },
  {
    name: 'refused-no-volumes',
    about: 'Volumes are never chosen for the user.',
    review: reviewOf({
      ...podOf(),
      metadata: { name: 'app', annotations: { 'holdfast.dev/inject': 'true' } },
    }),
  },
  {
    name: 'refused-values',
    about: 'Every wrong annotation is named with its value and a remedy.',
    review: reviewOf(
      podOf({ annotations: { schedule: '5x', shedule: '5s', 'on-first-boot': 'older:1h', 'run-as-user': 'root' } }),
    ),
  },
  {
    name: 'refused-unknown-user',
    about: 'A pod that must not run as root, and whose user stands in its image only.',
    review: reviewOf(podOf({ spec: { securityContext: restricted } })),
  },
  {
    name: 'refused-root',
    about: 'Root is asked for in a pod that demands non-root.',
    review: reviewOf(podOf({ annotations: { 'run-as-user': '0' }, spec: { securityContext: restricted } })),
  },
  {
    name: 'refused-mixed-users',
    about: 'Two users write the volumes, and nothing may run as root.',
    review: reviewOf(
      podOf({
        spec: {
          securityContext: restricted,
          containers: [
            containerOf('a', { securityContext: { runAsUser: 1 } }),
            containerOf('b', { securityContext: { runAsUser: 2 } }),
          ],
        },
      }),
    ),
  },
  {
    name: 'mixed-users',
    about: 'Two users write the volumes: only root keeps their files apart. A reader does not count.',
    review: reviewOf(
      podOf({
        spec: {
          securityContext: {},
          containers: [
            containerOf('a', { securityContext: { runAsUser: 1 } }),
            containerOf('b', { securityContext: { runAsUser: 2 } }),
            containerOf('c', {
              securityContext: { runAsNonRoot: true },
              volumeMounts: [{ name: 'data', mountPath: '/d', readOnly: true }],
            }),
          ],
        },
      }),
    ),
  },
  {
    name: 'openshift',
    about: 'On OpenShift the namespace gives every container its user.',
    settings: { platform: 'openshift' },
    review: reviewOf(podOf({ spec: { securityContext: {} } })),
  },
  {
    name: 'refused-windows',
    about: 'No agent on Windows.',
    review: reviewOf(podOf({ spec: { os: { name: 'windows' } } })),
  },
  {
    name: 'refused-host-network',
    about: 'In the network of its node, and on a virtual node besides.',
    review: reviewOf(podOf({ spec: { hostNetwork: true, nodeSelector: { type: 'virtual-kubelet' } } })),
  },
  {
    name: 'host-network-allowed',
    about: 'The platform team may allow it: nothing listens on a port. A toleration of virtual nodes is a warning.',
    settings: { hostNetwork: 'allow' },
    review: reviewOf(
      podOf({ spec: { hostNetwork: true, tolerations: [{ key: 'virtual-kubelet.io/provider', operator: 'Exists' }] } }),
    ),
  },
  {
    name: 'skipped-mirror',
    about: 'The image of a static pod is let through with a warning.',
    review: reviewOf(podOf({ otherAnnotations: { 'kubernetes.io/config.mirror': 'ab12' } })),
  },
  {
    name: 'skipped-not-opted-in',
    about: 'Nothing of it is read, however wrong it is.',
    review: reviewOf({
      metadata: { annotations: { 'holdfast.dev/schedule': '5x' } },
      spec: { containers: 'no list', hostNetwork: true },
    }),
  },
  {
    name: 'skipped-not-quite-opted-in',
    about: 'Yes is not true: a warning, since somebody meant something.',
    review: reviewOf(podOf({ annotations: { inject: 'yes' } })),
  },
  {
    name: 'skipped-update',
    about: 'Only when a pod is created.',
    review: reviewOf(podOf(), { operation: 'UPDATE' }),
  },
  {
    name: 'grace-raised',
    about: 'The grace period is raised on request only, and what does not fit in it is said.',
    settings: { uploadBytesPerSecond: 20_000_000 },
    review: reviewOf(
      podOf({
        annotations: { 'grace-at-least': '90s' },
        spec: {
          terminationGracePeriodSeconds: 45,
          volumes: [{ name: 'data', emptyDir: { sizeLimit: '10Gi' } }],
        },
      }),
    ),
  },
  {
    name: 'grace-too-short',
    about: 'No last checkpoint in two seconds.',
    review: reviewOf(podOf({ spec: { terminationGracePeriodSeconds: 2 } })),
  },
  {
    name: 'layers',
    about: 'The pod beats its namespace, which beats its policy, which beats the settings.',
    settings: {
      defaults: { schedule: '1s', rpo: '1s', 'log-level': 'warn', 'handoff-wait': '1s' },
      policies: {
        gold: {
          namespaces: ['team-*'],
          annotations: { schedule: '2s', rpo: '2s', 'log-level': 'debug', 'exclude.data': 'gold' },
        },
      },
      namespaces: { 'team-a': { policy: 'gold', schedule: '3s', rpo: '3s' } },
    },
    review: reviewOf(podOf({ annotations: { schedule: '4s' } })),
  },
  {
    name: 'refused-tenancy',
    about: 'A store of another team, and a policy of another team.',
    settings: {
      stores: {
        default: s3,
        'team-b': { address: 's3://team-b', namespaces: ['team-b', 'b-*'] },
      },
    },
    review: reviewOf(podOf({ metadata: { namespace: 'team-b' }, annotations: { store: 'team-b' } })),
  },
  {
    name: 'refused-policy',
    about: 'A policy that is not for the namespace.',
    settings: { policies: { gold: { namespaces: ['team-b'], annotations: {} } } },
    review: reviewOf(podOf({ annotations: { policy: 'gold' } })),
  },
  {
    name: 'refused-foreign-lineage',
    about: 'No annotation reaches another namespace or cluster.',
    review: reviewOf(podOf({ annotations: { lineage: 'dev/team-b/statefulset/db', slot: '../0' } })),
  },
  {
    name: 'refused-owner',
    about: 'An owner that gives its pods no names that are known.',
    review: reviewOf(podOf({ metadata: ownedBy('TaskRun', 'build') })),
  },
  {
    name: 'refused-taken-names',
    about: 'An application must not mount what holds the keys of its checkpoints.',
    review: reviewOf(
      podOf({
        spec: {
          containers: [
            containerOf('app', { volumeMounts: [{ name: 'holdfast-key', mountPath: '/k' }] }),
            containerOf('holdfast-agent'),
          ],
        },
      }),
    ),
  },
  {
    name: 'replicas',
    about: 'Three replicas claim numbered slots when they run.',
    review: reviewOf(podOf({ metadata: ofDeployment(), annotations: { slots: 'claim', replicas: '3' } })),
  },
  {
    name: 'seed',
    about: 'Replicas that all begin from slot 0 and write nothing get no agent.',
    review: reviewOf(podOf({ metadata: ofDeployment(), annotations: { slots: 'seed' } })),
  },
  {
    name: 'service-with-its-ca',
    about: 'The CA of the service that pods ask comes as text, so that no object in their namespace is needed.',
    settings: { service: { url: 'https://holdfast.holdfast.svc', ca: pem } },
    review: reviewOf(podOf({ metadata: stateful() })),
  },
  {
    name: 'refused-replicas',
    about: 'Slots are claimed, and nobody says how many there are.',
    review: reviewOf(podOf({ metadata: ofDeployment(), annotations: { slots: 'claim' } })),
  },
  {
    name: 'restore-at',
    about: 'The pods of a workload go back to an older checkpoint.',
    review: reviewOf(podOf({ metadata: stateful(), annotations: { 'restore-at': '2026-03-01T12:00Z' } })),
  },
  {
    name: 'replicas-fork',
    about: 'Replicas that find all slots held begin new ones.',
    review: reviewOf(
      podOf({ metadata: ofDeployment(), annotations: { slots: 'claim', replicas: '3', 'when-held': 'fork' } }),
    ),
  },
  {
    name: 'refused-different-globs',
    about: 'Two volumes with globs that differ.',
    review: reviewOf(
      podOf({
        annotations: { volumes: 'data,cache', 'exclude.data': '*.tmp' },
        spec: { volumes: [data, { name: 'cache', emptyDir: {} }] },
      }),
    ),
  },
  {
    name: 'refused-malformed',
    about: 'A pod that the API server would not have let through.',
    review: reviewOf(podOf({ spec: { volumes: [{ name: 'data', emptyDir: 'yes' }] } })),
  },
  {
    name: 'store-with-everything',
    about: 'A role of its own, a CA, the service that pods ask, an address with text that names no variable.',
    settings: {
      service: { url: 'https://holdfast.holdfast.svc', audience: 'holdfast.dev', caConfigMap: 'holdfast-ca' },
      stores: {
        default: {
          address: 's3://checkpoints/$(HOME)?region=eu-central-1',
          namespaces: ['*'],
          roleArn: 'arn:aws:iam::123456789012:role/holdfast',
          caConfigMap: 'company-ca',
          env: { AWS_REGION: 'eu-central-1', HTTPS_PROXY: 'http://proxy:3128' },
        },
      },
    },
    review: reviewOf(
      podOf({
        spec: { containers: [containerOf('app', irsa)], volumes: [data, irsaVolume] },
      }),
    ),
  },
  {
    name: 'store-in-a-claim',
    about: 'A directory store in a claim of the namespace, without encryption, with nothing of AWS.',
    settings: {
      stores: { default: { address: 'file:/srv/store', namespaces: ['*'], encrypted: false, claim: 'checkpoints' } },
    },
    review: reviewOf(podOf()),
  },
  {
    name: 'store-with-secret',
    about: 'Credentials from a Secret, as a file; root alone may read it.',
    settings: { stores: { default: { ...s3, credentialsSecret: 'bucket' } } },
    review: reviewOf(podOf({ spec: { securityContext: { runAsUser: 0 } } })),
  },
  {
    name: 'sub-path-expression',
    about: 'A sub-path that is another in each pod breaks what a successor inherits.',
    review: reviewOf(
      podOf({
        spec: {
          containers: [
            containerOf('app', {
              volumeMounts: [{ name: 'data', mountPath: '/d', subPathExpr: '$(POD_NAME)' }],
            }),
          ],
        },
      }),
    ),
  },
];
