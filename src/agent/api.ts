/**
 * The local API: fastify on the agent's socket, and on a port of the loopback interface where one was asked for. Whoever can open the
 * socket may ask; at the port a token is needed, since every process of the pod reaches it. What is sent is not trusted.
 */
import Fastify, { type FastifyInstance } from 'fastify';
import { agentBodyBytesMax, agentRoutes, type AgentStatus } from '../contract/agent-api.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import type { Control } from './control.ts';
import type { AgentState } from './state.ts';

const pauseSecondsMax = 7 * 86_400;
/** A request that does not come to its end is cut off. */
const requestMsMax = 10_000;

export interface ApiParts {
  readonly state: AgentState;
  readonly control: Control;
  /** The status, after a look at what is unsaved. */
  readonly status: () => Promise<AgentStatus>;
  readonly residentBytes: () => number;
}

export interface ApiPlaces {
  readonly socketPath: string;
  /** On 127.0.0.1, for those who give the token; read again for each request, so that it can be replaced. */
  readonly port?: { readonly number: number; readonly token: () => Promise<string | undefined> } | undefined;
  /** On every address, to everybody: the metrics and nothing else, for a Prometheus outside of the pod. */
  readonly metricsPort?: number | undefined;
}

const noBody = { type: ['object', 'null'], maxProperties: 0 } as const;
const triggerBody = {
  type: ['object', 'null'],
  properties: { wait: { type: 'boolean' } },
  additionalProperties: false,
} as const;
const pauseBody = {
  type: ['object', 'null'],
  properties: { seconds: { type: 'number', exclusiveMinimum: 0, maximum: pauseSecondsMax } },
  additionalProperties: false,
} as const;

/** Serves until disposed of. E_STATE_DIR when the socket cannot be made, E_USAGE when the port is taken. */
export async function serveApi(
  parts: ApiParts,
  { socketPath, port, metricsPort }: ApiPlaces,
): Promise<AsyncDisposable> {
  await using served = new AsyncDisposableStack();
  const onSocket = createApi(parts);
  served.defer(() => onSocket.close());
  try {
    await onSocket.listen({ path: socketPath });
  } catch (cause) {
    throw new HoldfastError('E_STATE_DIR', `cannot listen on ${socketPath}`, { cause });
  }
  if (port !== undefined) {
    const onPort = createApi(parts);
    served.defer(() => onPort.close());
    onPort.addHook('onRequest', async (request, reply) => {
      const token = await port.token();
      const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
      if (token === undefined || given === undefined || !sameText(given, token)) {
        return await reply
          .code(401)
          .header('www-authenticate', 'Bearer')
          .send({ message: 'the token is missing or wrong' });
      }
    });
    try {
      await onPort.listen({ host: '127.0.0.1', port: port.number });
    } catch (cause) {
      throw new HoldfastError('E_USAGE', `cannot listen on port ${port.number} of 127.0.0.1`, { cause });
    }
  }
  if (metricsPort !== undefined) {
    const onMetricsPort = createMetricsApi(parts);
    served.defer(() => onMetricsPort.close());
    try {
      await onMetricsPort.listen({ host: '::', port: metricsPort });
    } catch (cause) {
      throw new HoldfastError('E_USAGE', `cannot listen on port ${metricsPort}`, { cause });
    }
  }
  return served.move();
}

const ownOptions = {
  bodyLimit: agentBodyBytesMax,
  requestTimeout: requestMsMax,
  forceCloseConnections: true,
} as const;

/** It says sizes, ages and names of volumes; nothing can be asked for by it. */
function createMetricsApi({ state, residentBytes }: ApiParts): FastifyInstance {
  const api = Fastify(ownOptions);
  addMetrics(api, state, residentBytes);
  return api;
}

function addMetrics(api: FastifyInstance, state: AgentState, residentBytes: () => number): void {
  let render: (() => Promise<string>) | undefined;
  api.get(agentRoutes.metrics.path, async (_request, reply) => {
    const { createMetrics, metricsContentType } = await import('./metrics.ts');
    render ??= createMetrics(state, residentBytes);
    return await reply.header('content-type', metricsContentType).send(await render());
  });
}

/** In a time that does not tell how much of it was right. */
function sameText(given: string, expected: string): boolean {
  let differs = given.length ^ expected.length;
  for (let at = 0; at < given.length; at++) differs |= given.charCodeAt(at) ^ expected.charCodeAt(at % expected.length);
  return differs === 0;
}

function createApi({ state, control, status, residentBytes }: ApiParts): FastifyInstance {
  const api = Fastify({
    ...ownOptions,
    // What is wrong is refused, not made to fit.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  });
  const { status: statusRoute, progress, receipt, health, notify, checkpoint, pause, resume } = agentRoutes;

  api.get(statusRoute.path, () => status());
  api.get(progress.path, async (_request, reply) => reply.send(state.capture ?? null));
  api.get(receipt.path, async (_request, reply) =>
    state.receipt === null ? reply.code(404).send({ message: 'nothing was restored' }) : reply.send(state.receipt),
  );
  api.get(health.path, async (_request, reply) => {
    const found = state.health();
    return await reply.code(found.healthy ? 200 : 503).send(found);
  });
  addMetrics(api, state, residentBytes);
  api.post(notify.path, { schema: { body: noBody } }, async (_request, reply) => {
    control.notify();
    return reply.code(202).send({});
  });
  api.post<{ Body: { wait?: boolean } | null }>(
    checkpoint.path,
    { schema: { body: triggerBody } },
    async ({ body }, reply) => {
      if (body?.wait === true) return await control.triggered();
      control.trigger();
      return reply.code(202).send({});
    },
  );
  api.post<{ Body: { seconds?: number } | null }>(pause.path, { schema: { body: pauseBody } }, async ({ body }) => {
    control.pause(body?.seconds);
    return await status();
  });
  api.post(resume.path, { schema: { body: noBody } }, async () => {
    control.resume();
    return await status();
  });
  return api;
}
