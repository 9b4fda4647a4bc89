/** The chart as the real helm sees it. Installs helm where it is missing. */
import { loadAll } from 'js-yaml';
import { beforeAll, describe, expect, it } from 'vitest';
import { installHelm } from '../../tools/helm.ts';
import { lint, readRender, refusals, render, renderNames } from './golden.ts';

beforeAll(() => {
  installHelm();
});

describe.each(renderNames)('with the values %s', (name) => {
  it('helm renders what was reviewed, the same each time', () => {
    for (let round = 0; round < 2; round++) {
      const { status, stdout, stderr } = render(name);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toBe(readRender(name));
    }
  });

  it('helm finds nothing to complain about', () => {
    const { status, stdout } = lint(name);
    expect(status, stdout).toBe(0);
  });
});

it.each(refusals)('refuses %j and says: %s', (args, message) => {
  const { status, stderr } = render('least', args);
  expect(status).not.toBe(0);
  expect(stderr).toContain(message);
});

it('refuses a Kubernetes that is too old', () => {
  const { status, stderr } = render('least', ['--kube-version', '1.28.0']);
  expect(status).not.toBe(0);
  expect(stderr).toContain('1.29.0');
});

it('leaves out what Kubernetes 1.29 does not have', () => {
  const { status, stdout } = render('least', ['--kube-version', '1.29.0']);
  expect(status).toBe(0);
  expect(stdout).not.toContain('ValidatingAdmissionPolicy');
});

it('has cert-manager sign with an authority that outlives what it signs, where no issuer is named', () => {
  const { status, stdout, stderr } = render('least', ['--set', 'webhook.certificate.source=certManager']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  interface CertManagerObject {
    readonly kind: string;
    readonly metadata: { readonly name: string };
    readonly spec: {
      readonly secretName?: string;
      readonly isCA?: boolean;
      readonly issuerRef?: { readonly name: string };
      readonly ca?: { readonly secretName: string };
      readonly selfSigned?: object;
    };
  }
  const objects = (loadAll(stdout) as (CertManagerObject | null)[]).filter((each) => each !== null);
  const find = (kind: string, name: string | undefined): CertManagerObject['spec'] | undefined =>
    objects.find((each) => each.kind === kind && each.metadata.name === name)?.spec;
  const leaf = objects.find(({ kind, spec }) => kind === 'Certificate' && spec.isCA !== true);
  const signsLeaf = find('Issuer', leaf?.spec.issuerRef?.name);
  const authority = objects.find(({ kind, spec }) => kind === 'Certificate' && spec.isCA === true)?.spec;
  expect(signsLeaf?.ca?.secretName).toBe(authority?.secretName);
  expect(authority?.secretName).toBeDefined();
  expect(find('Issuer', authority?.issuerRef?.name)?.selfSigned).toEqual({});
});
