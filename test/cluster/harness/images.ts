/** The images that a test cluster runs: that of Holdfast, which the applications of the tests run on too, and that of a pod's sandbox. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Podman } from '../../image/podman.ts';
import { pauseImage } from './node-files.ts';
import { runNow } from './processes.ts';
import { partDirectory } from './programs.ts';

export const holdfastImage = 'localhost/holdfast-test-cluster:1';

/** Builds both and puts them into one archive. */
export function archiveImages(archive: string): void {
  using podman = new Podman();
  podman.build(holdfastImage);
  if (podman.run('image', 'exists', pauseImage).code !== 0) {
    const layer = `${archive}.pause`;
    runNow(['tar', '--directory', partDirectory('kubernetes'), '--create', '--file', layer, 'pause']);
    podman.must('import', '--change', 'USER 65535:65535', '--change', 'ENTRYPOINT ["/pause"]', layer, pauseImage);
    rmSync(layer);
  }
  // An archive that is there would be added to, which this form does not allow.
  rmSync(archive, { force: true });
  podman.must('save', '--quiet', '--multi-image-archive', '--output', archive, holdfastImage, pauseImage);
}

export function imagesIn(directory: string): string {
  return join(directory, 'images.tar');
}
