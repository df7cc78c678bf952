/** Tries a device in another process, since a faulty driver can end the process that asks it. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { DeviceKind } from '../engine.ts';

/** How a probe went wrong; `text` is what the process wrote. */
export interface ProbeFailure {
  how: 'failed' | 'crashed' | 'timeout';
  text: string;
}

const probeTimeoutMs = 20_000;
const script = fileURLToPath(new URL('./probe-device.ts', import.meta.url));

/** Computes something small on the device. @returns undefined when that worked */
export function probeDevice(kind: DeviceKind): Promise<ProbeFailure | undefined> {
  return new Promise((resolve) => {
    const options = { timeout: probeTimeoutMs, killSignal: 'SIGKILL', windowsHide: true } as const;
    execFile(process.execPath, [script, kind], options, (error, _stdout, text) => {
      if (error === null) resolve(undefined);
      else if (error.killed === true) resolve({ how: 'timeout', text });
      else resolve({ how: typeof error.code === 'number' && error.code === 1 ? 'failed' : 'crashed', text });
    });
  });
}
