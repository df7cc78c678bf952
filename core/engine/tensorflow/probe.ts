/** Asks another process whether the native library works, so that a crash of it harms nobody. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type ProbeReport, probeFailureSchema, probeReportSchema } from './probe-report.ts';

const probeTimeoutMs = 60_000;

export type ProbeAnswer = { report: ProbeReport; missing: string[] } | { failure: string };

/**
 * @param device `cuda` lets the library look for graphics processors
 * @returns what works, with the libraries that it missed on the way, or why nothing does
 */
export function probeNative(device: 'cpu' | 'cuda', folder: string): Promise<ProbeAnswer> {
  const script = fileURLToPath(new URL('./probe-native.ts', import.meta.url));
  // At this level the library says which parts of CUDA it looked for in vain.
  const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '0' };
  const options = { timeout: probeTimeoutMs, windowsHide: true, env };
  return new Promise((resolve) => {
    execFile(process.execPath, [script, device, folder], options, (_error, stdout, stderr) => {
      resolve(readAnswer(stdout, stderr));
    });
  });
}

export function readAnswer(stdout: string, stderr: string): ProbeAnswer {
  let answer: unknown;
  try {
    answer = JSON.parse(stdout);
  } catch {
    return { failure: 'The TensorFlow library crashes when it is loaded.' };
  }
  const report = probeReportSchema.safeParse(answer);
  if (report.success && report.data.computes)
    return { report: report.data, missing: missingLibraries(stderr) };
  if (report.success) return { failure: 'The TensorFlow library computes wrong results on this computer.' };
  const failure = probeFailureSchema.safeParse(answer);
  return { failure: failure.success ? failure.data.failure : 'The TensorFlow library does not answer.' };
}

/** The libraries that TensorFlow names in its log when they cannot be opened. */
function missingLibraries(log: string): string[] {
  const names = log.matchAll(/Could not load dynamic library '([\w.+-]+)'/g);
  return [...new Set([...names].map(([, name]) => name!))];
}
