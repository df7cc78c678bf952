/** Tries a device in another process, since a faulty driver can end the process that asks it. */
import { fileURLToPath } from 'node:url';
import { runProgram } from '../../process/child-process.ts';
import { watchedByChild } from '../../process/parent-watch.ts';
import type { DeviceKind } from '../engine.ts';

/** How a probe went wrong; `text` is what the process wrote. */
export interface ProbeFailure {
  how: 'failed' | 'crashed' | 'timeout';
  text: string;
}

const probeTimeoutMs = 20_000;
const script = fileURLToPath(new URL('./probe-device.ts', import.meta.url));

/** Computes something small on the device. @returns undefined when that worked */
export async function probeDevice(kind: DeviceKind): Promise<ProbeFailure | undefined> {
  const { failed, timedOut, exitCode, stderr } = await runProgram(process.execPath, [script, kind], {
    timeout: probeTimeoutMs,
    env: watchedByChild(),
  });
  if (!failed) return undefined;
  return { how: timedOut ? 'timeout' : exitCode === 1 ? 'failed' : 'crashed', text: stderr };
}
