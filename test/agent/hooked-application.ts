import { createServer, type Server } from 'node:http';
import type { JsonObject } from '../cli/run-cli.ts';

/** An application with hooks, which notes how it was called. */
export class HookedApplication implements AsyncDisposable {
  readonly calls: string[] = [];
  readonly bodies: JsonObject[] = [];
  /** What is answered, by path; a promise holds the answer up. */
  answers: Readonly<Record<string, number | Promise<number>>> = {};
  onCall: (path: string) => void = () => undefined;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = JSON.parse(Buffer.concat(chunks).toString()) as JsonObject;
      this.calls.push(`${request.method} ${request.url} ${body['hook']}`);
      this.bodies.push(body);
      this.onCall(request.url ?? '');
      response.statusCode = (await this.answers[request.url ?? '']) ?? 200;
      response.end();
    });
  }

  static async listen(where: number | string): Promise<HookedApplication> {
    const application = new HookedApplication();
    await new Promise<void>((resolve) => application.#server.listen(where as number, '127.0.0.1', resolve));
    return application;
  }

  static async listenAt(path: string): Promise<HookedApplication> {
    const application = new HookedApplication();
    await new Promise<void>((resolve) => application.#server.listen(path, resolve));
    return application;
  }

  at(path: string): string {
    const address = this.#server.address();
    return typeof address === 'string' ? `unix:${address}:${path}` : `http://127.0.0.1:${address?.port}${path}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
