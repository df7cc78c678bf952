/** What the probe process says about the native library, as one line of JSON. */
import { z } from 'zod';

export const probeReportSchema = z.object({
  version: z.string(),
  usesGpu: z.boolean(),
  /** Whether a sum on the device came out right. */
  computes: z.boolean(),
});

export type ProbeReport = z.infer<typeof probeReportSchema>;

/** A failure that the probe can name. */
export const probeFailureSchema = z.object({ failure: z.string() });
