/** Asks another process whether the native library works, so that a crash of it harms nobody. */
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { runProgram } from '../../process/child-process.ts';
import { watchedByChild } from '../../process/parent-watch.ts';
import { jsonText } from '../../shared/text.ts';

/** What the probe process says about the native library, as one line of JSON. */
const probeReportSchema = z.object({
  version: z.string(),
  usesGpu: z.boolean(),
  /** Whether a sum on the device came out right. */
  computes: z.boolean(),
});
export type ProbeReport = z.infer<typeof probeReportSchema>;

/** A failure that the probe can name. */
const probeFailureSchema = z.object({ failure: z.string() });

const probeTimeoutMs = 60_000;

export type ProbeAnswer = { report: ProbeReport; missing: string[] } | { failure: string };

/**
 * @param device `cuda` lets the library look for graphics processors
 * @returns what works, with the libraries that it missed on the way, or why nothing does
 */
export async function probeNative(device: 'cpu' | 'cuda', folder: string): Promise<ProbeAnswer> {
  const script = fileURLToPath(new URL('./probe-native.ts', import.meta.url));
  const { stdout, stderr } = await runProgram(process.execPath, [script, device, folder], {
    timeout: probeTimeoutMs,
    // At this level the library says which parts of CUDA it looked for in vain.
    env: { ...watchedByChild(), TF_CPP_MIN_LOG_LEVEL: '0' },
  });
  return readAnswer(stdout, stderr);
}

export function readAnswer(stdout: string, stderr: string): ProbeAnswer {
  const answer = jsonText.safeParse(stdout);
  if (!answer.success) return { failure: 'The TensorFlow library crashes when it is loaded.' };
  const report = probeReportSchema.safeParse(answer.data).data;
  if (report?.computes) return { report, missing: missingLibraries(stderr) };
  if (report) return { failure: 'The TensorFlow library computes wrong results on this computer.' };
  const failure = probeFailureSchema.safeParse(answer.data).data?.failure;
  return { failure: failure ?? 'The TensorFlow library does not answer.' };
}

/** The libraries that TensorFlow names in its log when they cannot be opened. */
function missingLibraries(log: string): string[] {
  const names = log.matchAll(/Could not load dynamic library '([\w.+-]+)'/g);
  return [...new Set([...names].map(([, name]) => name!))];
}
