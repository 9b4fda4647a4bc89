/** What the agent's log lines are about: `event` of each line never changes its meaning; docs/agent.md lists the same. */
export const agentEvents = {
  started: 'the agent runs, with its settings',
  'store-waiting': 'the store does not answer, or is not ready; the agent goes on trying',
  claimed: 'the agent is the writer of its lineage',
  'restore-waiting': 'the restore of the pod is not complete; the agent waits for it',
  'service-silent': 'the service that knows of other pods does not answer: whoever is asked about counts as alive',
  'lineage-waiting': 'another holder, who may be alive, has the lineage',
  committed: 'a checkpoint is durable',
  unchanged: 'a look found nothing that the newest checkpoint does not show',
  failed: 'an attempt at a checkpoint has failed; there will be another',
  notified: 'the pod is about to end',
  'not-ended': 'the pod was about to end, and did not; the schedule goes on',
  terminating: 'told to stop: the last checkpoint and the seal follow',
  'still-used': 'told to stop while others use the volumes; the grace is used to wait for them',
  fenced: 'a successor took the lineage over',
  sealed: 'the lineage is sealed: a successor may go on at once',
  unsaved: 'what the end of the agent leaves unsaved',
  'hook-failed': 'the application did not answer a hook; checkpoints are made without it',
  'told-restored': 'the application was told, and has answered, that its volumes were restored',
  'left-held': 'an agent that died has left the application held: it is let go',
  watching: 'which watcher tells where a volume changes, from now on',
  'watcher-missed': 'a full walk has found changes that the watcher had not told of; they are in the checkpoint',
  'anchor-unkept':
    'the newest checkpoint is not known outside of the store: the service in the cluster does not answer, or refuses',
  paused: 'no scheduled checkpoints until resumed',
  resumed: 'scheduled checkpoints go on',
  cache: 'the scan cache is done without',
  ended: 'the agent ends, with its exit code',
} as const;

export type AgentEvent = keyof typeof agentEvents;
