/**
 * The thread that watches. It sleeps in the kernel until there is an event or an order: a volume in which nothing happens costs
 * nothing. After an event it waits a little before it reads on, so that a busy volume does not wake it for each.
 */
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import { ChangeLog } from '../../engine/model/changes.ts';
import { InotifyTree, WatchError } from './inotify-tree.ts';
import type { InotifyOrder, InotifyReply, InotifyThreadData } from './inotify-protocol.ts';
import { loadLinuxCalls } from './linux-calls.ts';

/** The kernel's queue holds 16,384 events: 20 ms of more than 800,000 a second. */
const lullMs = 20;
const manyEvents = 2000;

function serve(port: MessagePort, { rootDescriptor, wake, namesMax, ended }: InotifyThreadData): void {
  const end = new Int32Array(ended);
  const reply = (message: InotifyReply): void => port.postMessage(message);
  const { calls, ...rest } = loadLinuxCalls();
  if (calls === undefined) {
    reply({ type: 'failed', why: 'why' in rest ? rest.why : '', errno: 'ENOSYS' });
    return;
  }
  const log = new ChangeLog({ namesMax, everything: 'started' });
  let tree: InotifyTree | undefined;
  try {
    tree = new InotifyTree(calls, rootDescriptor, wake, log);
    reply({ type: 'watching', directories: tree.directories });
    while (Atomics.load(end, 0) === 0) {
      const events = tree.drain();
      for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
        obey(got.message as InotifyOrder, tree, log, reply);
      }
      if (Atomics.load(end, 0) !== 0) break;
      if (events === 0) tree.sleep(true, -1);
      else if (events < manyEvents) tree.sleep(false, lullMs);
    }
  } catch (error) {
    const errno = error instanceof WatchError ? error.errno : '';
    reply({ type: 'failed', why: error instanceof Error ? error.message : String(error), errno });
  } finally {
    tree?.close();
    port.close();
  }
}

function obey(
  { id, kind }: InotifyOrder,
  tree: InotifyTree,
  log: ChangeLog,
  reply: (message: InotifyReply) => void,
): void {
  // All that was complete before the order came is in the queue by now.
  tree.drain();
  if (kind === 'count') {
    reply({ type: 'count', id, count: log.count() });
    return;
  }
  tree.recover();
  tree.drain();
  const changes = log.take();
  reply({
    type: 'taken',
    id,
    taken: changes.kind === 'everything' ? changes : { kind: 'names', names: [...changes.names.entries()] },
  });
}

serve(parentPort as MessagePort, workerData as InotifyThreadData);
