import { killsOn } from './kills.ts';

killsOn('seaweedfs', { application: false });
