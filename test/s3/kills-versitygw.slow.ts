import { killsOn } from './kills.ts';

killsOn('versitygw', { application: true });
