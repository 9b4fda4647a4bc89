/** The chart as the real helm sees it. Installs helm where it is missing. */
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
