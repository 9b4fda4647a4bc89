import { repositoryObjectKey } from '../engine/format/object-keys.ts';
import { proveCreateOnly } from '../engine/lineage/prove-create-only.ts';
import { createRepository } from '../engine/lineage/repository.ts';
import { HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { KeyRing } from '../engine/ports/key-ring.ts';
import type { ObjectWriter } from '../engine/ports/object-store.ts';
import type { Host } from './host.ts';
import { fencingJson, sayUnfenced } from './warnings.ts';
import { type Parsed, usage } from './options.ts';
import { encryptionOf, formOf } from './session.ts';

/** Makes the repository, and its key when the key file does not exist. */
export async function init(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('init', parsed);
  const address = parsed.required('store');
  const keyFile = parsed.text('key-file');
  const encryption = encryptionOf('init', parsed) ?? 'aes-256-gcm';
  if (parsed.positionals.length > 0) throw usage('init', `init takes no argument: ${parsed.positionals[0]}`);
  if (encryption === 'aes-256-gcm' && keyFile === undefined) {
    throw usage('init', '--key-file is missing; without encryption say so: --encryption none');
  }
  await using store = await host.openWriter(address, { create: true });
  // Before a key is made: a repository that stands already keeps its own.
  if ((await store.stat(repositoryObjectKey, { signal: host.signal })) !== undefined) {
    throw new HoldfastError('E_REPOSITORY_EXISTS', `there is a repository in ${address} already`);
  }
  // A directory decides by link(), and refuses where it cannot. What a server does with a condition has to be seen.
  const network = (await host.storePath(address)) === undefined;
  if (!network && parsed.flag('unfenced')) {
    throw usage('init', '--unfenced is for servers: a directory refuses to overwrite, or nothing can be created in it');
  }
  const unfenced = network && !(await isCreateOnly(host, address, store, parsed.flag('unfenced')));
  let keyRing: KeyRing | undefined;
  let madeKey = false;
  if (encryption === 'aes-256-gcm' && keyFile !== undefined) {
    if (host.exists(keyFile)) keyRing = await host.openKey(keyFile);
    else {
      keyRing = await host.createKey(keyFile);
      madeKey = true;
    }
  }
  const repository = await createRepository(
    { keyRing, encryption, unfenced },
    { store, clock: host.clock, random: host.random, signal: host.signal },
  );
  if (form === 'json') {
    const { id, formatVersion } = repository;
    host.stdout.write(
      `${JSON.stringify({ repository: id, store: address, encryption, keyFile, madeKey, formatVersion, ...fencingJson(repository) })}\n`,
    );
    return 0;
  }
  if (unfenced) sayUnfenced(host);
  host.stdout.write(`Made repository ${repository.id} in ${address}.\n`);
  if (madeKey) {
    host.stdout.write(`Its key is in ${keyFile}. Keep a copy elsewhere: without it nothing can ever be restored.\n`);
  } else if (encryption === 'none') {
    host.stdout.write('Nothing in it is encrypted: who can read the store can read your data.\n');
  }
  return 0;
}

/** False when it is not, and that is accepted; E_UNFENCED when it is not accepted. */
async function isCreateOnly(host: Host, address: string, store: ObjectWriter, unfenced: boolean): Promise<boolean> {
  const { random, clock, signal } = host;
  await using inspector = await host.openInspector(address);
  try {
    await proveCreateOnly({ store, random, clock, signal, completeOver: inspector.completeOver });
    return true;
  } catch (error) {
    if (unfenced && isHoldfastError(error, 'E_UNFENCED')) return false;
    throw error;
  }
}
