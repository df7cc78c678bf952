/** An external broker that dies with its queues: Debian's Mosquitto, without persistence, with ten messages a queue. */
import { randomInt } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type Child, startChild } from '../../core/process/child-process.ts';

const binary = ['/usr/sbin/mosquitto', '/usr/local/sbin/mosquitto', '/opt/homebrew/sbin/mosquitto'].find(
  (file) => existsSync(file),
);
const waitMs = 60_000;

const placeSchema = z.strictObject({ folder: z.string(), port: z.int(), enrolmentPort: z.int() });
export type BrokerPlace = z.infer<typeof placeSchema>;
export const parseBrokerPlace = (text = '') => placeSchema.parse(JSON.parse(text));

export interface Mosquitto {
  readonly place: BrokerPlace;
  start(): Promise<void>;
  /** As `kill -9`: what it holds in memory is lost. */
  kill(): Promise<void>;
}

/** @throws Error where it is not installed */
export function createMosquitto(folder: string): Mosquitto {
  if (binary === undefined) throw new Error('Mosquitto is not installed: apt install mosquitto');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  // Below the range from which Linux draws the local ports of outgoing connections.
  const port = randomInt(10_000, 32_000);
  const place = { folder, port, enrolmentPort: port + 1 };
  let child: Child | null = null;
  return {
    place,
    async start() {
      if (child?.isRunning) return;
      const file = join(folder, 'mosquitto.conf');
      await until(() => existsSync(file), 'the coordinator to write the configuration');
      const started = startChild(binary, ['-c', file], {});
      child = started;
      await until(() => {
        if (!started.isRunning) throw new Error('Mosquitto ended');
        return isListening(port);
      }, 'Mosquitto to listen');
    },
    async kill() {
      await child?.kill();
    },
  };
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + waitMs; !(await condition()); await sleep(50))
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
}

export function isListening(port: number): Promise<boolean> {
  return new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
