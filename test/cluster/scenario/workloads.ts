/** Workloads as a user would write them: the application of the tests, with annotations for Holdfast. */

export type Kind = 'Deployment' | 'StatefulSet' | 'Job' | 'Pod' | 'DaemonSet';

export interface Application {
  readonly name: string;
  readonly image: string;
  /** Below `holdfast.dev/`, beside `inject` and `volumes`; null takes one away. */
  readonly annotations?: Readonly<Record<string, string | null>>;
  readonly replicas?: number;
  readonly graceSeconds?: number;
  /** How long the application takes to stop. */
  readonly stopMs?: number;
  /** How often it writes a line. */
  readonly lineMs?: number;
  /** In place of an emptyDir on disk, mounted at /data. */
  readonly volume?: object;
  /** Also a volume in memory, mounted at /memory. */
  readonly withMemory?: boolean;
  readonly memoryLimit?: string;
  readonly args?: readonly string[];
  /** Members of the pod's and of the workload's spec beside these. */
  readonly podSpec?: object;
  readonly spec?: object;
}

const application = 'application';

function podTemplate(app: Application): object {
  const { name, image, annotations = {}, graceSeconds = 20, stopMs = 0, lineMs, memoryLimit } = app;
  const volumes = app.withMemory ? ['data', 'memory'] : ['data'];
  const given = { inject: 'true', volumes: volumes.join(','), 'handoff-wait': '20s', schedule: '1h', ...annotations };
  const env = { STOP_MS: String(stopMs), ...(lineMs === undefined ? {} : { LINE_MS: String(lineMs) }) };
  return {
    metadata: {
      labels: { app: name },
      annotations: Object.fromEntries(
        Object.entries(given).flatMap(([key, value]) => (value === null ? [] : [[`holdfast.dev/${key}`, value]])),
      ),
    },
    spec: {
      terminationGracePeriodSeconds: graceSeconds,
      securityContext: {
        runAsUser: 1234,
        runAsGroup: 1234,
        runAsNonRoot: true,
        fsGroup: 1234,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name: 'app',
          image,
          imagePullPolicy: 'IfNotPresent',
          command: ['node', '/application/application.mjs', ...(app.args ?? ['run'])],
          env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
          ...((app.args ?? ['run'])[0] === 'run'
            ? { readinessProbe: { exec: { command: ['test', '-e', '/tmp/ready'] }, periodSeconds: 1 } }
            : {}),
          resources: {
            requests: { cpu: '10m', memory: '32Mi' },
            ...(memoryLimit === undefined ? {} : { limits: { memory: memoryLimit } }),
          },
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          volumeMounts: [
            { name: application, mountPath: '/application' },
            ...volumes.map((volume) => ({ name: volume, mountPath: `/${volume}` })),
          ],
        },
      ],
      volumes: [
        { name: application, configMap: { name: application } },
        { name: 'data', ...(app.volume ?? { emptyDir: {} }) },
        ...(app.withMemory ? [{ name: 'memory', emptyDir: { medium: 'Memory', sizeLimit: '32Mi' } }] : []),
      ],
      ...app.podSpec,
    },
  };
}

export function workload(kind: Kind, app: Application): object {
  const { name, replicas = 1, spec } = app;
  const template = podTemplate(app);
  const metadata = { name, labels: { app: name } };
  const selector = { matchLabels: { app: name } };
  switch (kind) {
    case 'Pod': {
      const pod = template as { metadata: object; spec: object };
      return { apiVersion: 'v1', kind, metadata: { ...pod.metadata, name }, spec: pod.spec };
    }
    case 'Job':
      return { apiVersion: 'batch/v1', kind, metadata, spec: { template: withRestart(template, 'Never'), ...spec } };
    case 'DaemonSet':
      return { apiVersion: 'apps/v1', kind, metadata, spec: { selector, template, ...spec } };
    case 'Deployment':
      return { apiVersion: 'apps/v1', kind, metadata, spec: { replicas, selector, template, ...spec } };
    case 'StatefulSet':
      return {
        apiVersion: 'apps/v1',
        kind,
        metadata,
        spec: { replicas, serviceName: name, selector, template, ...spec },
      };
  }
}

function withRestart(template: object, restartPolicy: string): object {
  const { spec, ...rest } = template as { spec: object };
  return { ...rest, spec: { restartPolicy, ...spec } };
}
