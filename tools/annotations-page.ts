/** Writes docs/annotations.md from the table that the webhook reads pods by: `node tools/annotations-page.ts`. */
import { writeFileSync } from 'node:fs';
import {
  type AnnotationInfo,
  annotationPrefix,
  annotations,
  volumeAnnotations,
  writtenAnnotations,
} from '../src/contract/annotations.ts';

const top = `# Annotations

Made from the webhook's own table by \`node tools/annotations-page.ts\`; a test compares the two.

\`\`\`yaml
metadata:
  annotations:
    holdfast.dev/inject: "true"
    holdfast.dev/volumes: "cache,index"
    holdfast.dev/schedule: "30s"
\`\`\`

They stand on pods: in a Deployment below \`spec.template.metadata\`. Holdfast reads a pod only when it says \`inject: "true"\`. Then it
is strict: a value that cannot be read, or an annotation below \`holdfast.dev/\` that does not exist, refuses the pod, and the message names
the annotation, the value and the remedy. Pods that did not opt in are never refused.

A pod's annotation beats its namespace's, which beats its policy's, which beats the default of the settings, which beats the default below.
Those marked *pod* count on a pod only. What came of it all is written to \`holdfast.dev/status\`.

Durations are \`500ms\`, \`30s\`, \`5m\`, \`2h\`, \`1d\`. Quantities are those of Kubernetes. In globs \`*\` and \`?\` stay inside a name, \`**\`
crosses directories, and a pattern without a slash matches at any depth.

`;

function row(name: string, info: AnnotationInfo<unknown>): string {
  const otherwise = info.otherwise === undefined ? '' : `\`${info.otherwise}\``;
  const text = `${info.form}. ${info.help}${info.podOnly === true ? ' *pod*' : ''}`;
  return `| \`${name}\` | ${text} | ${otherwise} | \`${info.example}\` |`;
}

function table(infos: Readonly<Record<string, AnnotationInfo<unknown>>>, suffix = ''): string {
  const rows = Object.entries(infos).map(([name, info]) => row(`${name}${suffix}`, info));
  return `| below \`${annotationPrefix}\` | value and meaning | default | example |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

export function annotationsPage(): string {
  const written = Object.entries(writtenAnnotations).map(
    ([name, { help }]) => `- \`${annotationPrefix}${name}\`: ${help}`,
  );
  return `${top}## For the pod\n\n${table(annotations)}
## For one volume\n\n${table(volumeAnnotations, '.VOLUME')}
## Written by Holdfast\n\n${written.join('\n')}\n`;
}

if (import.meta.main) writeFileSync(new URL('../docs/annotations.md', import.meta.url), annotationsPage());
