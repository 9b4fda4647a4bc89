/** Calls of the application's own hooks: HTTP, on the loopback interface or a unix socket. */
export interface HookCaller {
  /**
   * POSTs to it, with a JSON body. The status of the answer, whatever it is; E_ABORTED when none comes within `waitMs`, E_USAGE where
   * nobody listens or what answers speaks no HTTP. The signal ends it before, with E_ABORTED.
   */
  call(address: string, body: string, waitMs: number, options?: { readonly signal?: AbortSignal }): Promise<number>;
}
