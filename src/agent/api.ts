/** The local API: fastify on the agent's socket. Whoever can open the socket may ask; what they send is not trusted. */
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

/** Serves until disposed of. E_STATE_DIR when the socket cannot be made. */
export async function serveApi(parts: ApiParts, socketPath: string): Promise<AsyncDisposable> {
  const api = createApi(parts);
  try {
    await api.listen({ path: socketPath });
  } catch (cause) {
    throw new HoldfastError('E_STATE_DIR', `cannot listen on ${socketPath}`, { cause });
  }
  return { [Symbol.asyncDispose]: () => api.close() };
}

function createApi({ state, control, status }: ApiParts): FastifyInstance {
  const api = Fastify({
    bodyLimit: agentBodyBytesMax,
    requestTimeout: requestMsMax,
    forceCloseConnections: true,
    // What is wrong is refused, not made to fit.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  });
  const { status: statusRoute, progress, receipt, notify, checkpoint, pause, resume } = agentRoutes;

  api.get(statusRoute.path, () => status());
  api.get(progress.path, async (_request, reply) => reply.send(state.capture ?? null));
  api.get(receipt.path, async (_request, reply) =>
    state.receipt === null ? reply.code(404).send({ message: 'nothing was restored' }) : reply.send(state.receipt),
  );
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
