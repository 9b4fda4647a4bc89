/** Holdfast's service in the cluster as far as pods ask it, on loopback: a real HTTP server with the pods that a test says. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type GoneQuestion, gonePath, parseGoneQuestion, type PodState } from '../../src/contract/gone-question.ts';

export class GoneServer implements AsyncDisposable {
  readonly asked: (GoneQuestion & { readonly token: string | undefined })[] = [];
  readonly pods: Map<string, PodState> = new Map();
  /** Takes the place of an answer. */
  answer: ((question: GoneQuestion) => { readonly status: number; readonly body: string } | undefined) | undefined;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<GoneServer> {
    const server = createServer();
    const made = new GoneServer(server);
    server.on('request', async (request, response) => {
      let text = '';
      for await (const chunk of request) text += String(chunk);
      const question = request.method === 'POST' && request.url === gonePath ? parseGoneQuestion(text) : undefined;
      if (question === undefined) {
        response.writeHead(400).end();
        return;
      }
      made.asked.push({ ...question, token: request.headers.authorization });
      const other = made.answer?.(question);
      if (made.answer !== undefined && other === undefined) return;
      const body = JSON.stringify({
        version: 1,
        question: question.question,
        pod: { uid: question.pod.uid },
        state: made.pods.get(question.pod.uid) ?? 'alive',
      });
      response.writeHead(other?.status ?? 200, { 'content-type': 'application/json' }).end(other?.body ?? body);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return made;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
