import { expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { parseOptions, type Parsed } from '../../src/cli/options.ts';
import { decide } from '../../src/webhook/decide.ts';
import { agentArgs, notifyCommand, rehydrateArgs, runningCommand } from '../../src/webhook/container-args.ts';
import { readReview } from '../../src/webhook/admission-review.ts';
import { toLineageName } from '../../src/engine/model/ids.ts';
import { agentContainer, metricsPortName } from '../../src/contract/pod-layout.ts';
import type { JsonObject } from '../../src/webhook/json.ts';
import { patched } from '../../src/webhook/json-patch.ts';
import { render } from '../../src/webhook/render.ts';
import { cases } from './cases.ts';
import { podOf, requestOf, settingsOf } from './pods.ts';

/** As the command itself reads it. */
function parsed(name: string, args: readonly string[]): Parsed {
  const command = commands.find((each) => each.name === name);
  if (command === undefined) throw new Error(`there is no command ${name}`);
  return parseOptions(name, command.options, args, {}, command.repeatable);
}

const injected = cases.flatMap(({ name, review, settings: more }) => {
  const settings = settingsOf(more);
  const decision = decide(readReview(review), settings);
  return decision.kind === 'inject' ? [{ name, injection: decision.injection, settings }] : [];
});

it.each(injected)('what is injected for $name, the commands understand', ({ injection, settings }) => {
  const rehydrate = parsed('rehydrate', rehydrateArgs(injection, settings));
  const agent = parsed('agent', agentArgs(injection, settings));
  for (const command of [rehydrate, agent]) {
    expect(command.positionals).toEqual([]);
    expect(command.list('volume')).toEqual(injection.volumes.map(({ name }) => `${name}=/volumes/${name}`));
    // As the kubelet puts it in.
    const lineage = command.required('lineage').replace('$(HOLDFAST_NODE_NAME)', 'node-1.example');
    expect(toLineageName(lineage).split('/')).toHaveLength(
      ['claimed', 'seed'].includes(injection.lineage.slot.by) ? 4 : 5,
    );
    expect(command.required('state-dir')).toBe('/run/holdfast');
  }
  expect(agent.required('lineage')).toBe(rehydrate.required('lineage'));
  if (injection.lineage.slot.by === 'claimed') expect(rehydrate.required('replicas')).toBe('3');
  expect(agent.required('schedule')).toBe(injection.schedule);
});

it('the preStop hook is one, too', () => {
  const [program, name, ...args] = notifyCommand as [string, string, ...string[]];
  expect(program).toBe('holdfast');
  expect(parsed(name, args).required('state-dir')).toBe('/run/holdfast');
});

it('an agent counts on less than the grace period, and on a second at the least', () => {
  const graceOf = (graceSeconds: number): string => {
    const { injection, settings } = injected[0] as (typeof injected)[number];
    return parsed('agent', agentArgs({ ...injection, graceSeconds }, settings)).required('grace');
  };
  expect([0, 1, 2, 10, 30, 600].map(graceOf)).toEqual(['1s', '1s', '1s', '8s', '25s', '595s']);
});

it('the application waits for the agent where somebody says so, by a command that there is', () => {
  const settings = settingsOf();
  const probeOf = (annotations: Readonly<Record<string, string>>): JsonObject | undefined => {
    const pod = podOf({ annotations });
    const decision = decide(requestOf(pod), settings);
    if (decision.kind !== 'inject') throw new Error('not injected');
    const after = patched(pod, render(pod, decision.injection, settings, [])) as unknown as {
      readonly spec: { readonly initContainers: readonly { readonly startupProbe?: JsonObject }[] };
    };
    return after.spec.initContainers[1]?.startupProbe;
  };
  expect(probeOf({})).toBeUndefined();
  expect(probeOf({ 'wait-for-agent': 'true' })).toMatchObject({ exec: { command: runningCommand } });
  const [program, name, ...args] = runningCommand as [string, string, ...string[]];
  expect(program).toBe('holdfast');
  expect(parsed(name, args).flag('running')).toBe(true);
});

it('an agent gives its metrics where the settings say so, but not in the network of its node', () => {
  const settings = settingsOf({ metricsPort: 9464, hostNetwork: 'allow' });
  const agentOf = (spec: JsonObject): JsonObject => {
    const pod = podOf({ spec });
    const decision = decide(requestOf(pod), settings);
    if (decision.kind !== 'inject') throw new Error('not injected');
    const after = patched(pod, render(pod, decision.injection, settings, [])) as unknown as {
      readonly spec: { readonly initContainers: readonly JsonObject[] };
    };
    return after.spec.initContainers.find(({ name }) => name === agentContainer) as JsonObject;
  };
  const agent = agentOf({});
  expect(agent['ports']).toEqual([{ name: metricsPortName, containerPort: 9464, protocol: 'TCP' }]);
  expect(parsed('agent', agent['args'] as readonly string[]).number('metrics-port', 1, 65_535, 1)).toBe(9464);
  const onHost = agentOf({ hostNetwork: true });
  expect(onHost['ports']).toBeUndefined();
  expect(onHost['args']).not.toContain('--metrics-port');
});
