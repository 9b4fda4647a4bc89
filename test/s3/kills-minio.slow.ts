import { killsOn } from './kills.ts';

killsOn('minio', { application: false });
