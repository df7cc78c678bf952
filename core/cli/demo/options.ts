/** Options of `anneal demo`. */
import { z } from 'zod';
import { scheduleShapeSchema } from '../../config/run-config.ts';

export const demoOptionsSchema = z
  .object({
    out: z.string().min(1).default('demo-output'),
    rounds: z.coerce.number().int().min(1).max(200).default(10),
    sites: z.coerce.number().int().min(1).max(20).default(3),
    schedule: scheduleShapeSchema.default('cubic'),
    seed: z.coerce.number().int().default(1),
    /** False: no loopback address with the screens. */
    ui: z.boolean().default(true),
    images: z.string().optional(),
    labels: z.string().optional(),
    alreadyCropped: z.boolean().default(false),
    json: z.boolean().default(false),
    /** Leave everything running after the report, until Ctrl-C. */
    keepOpen: z.boolean().default(false),
  })
  .refine((options) => (options.images === undefined) === (options.labels === undefined), {
    message: '--images and --labels must be given together',
    path: ['images'],
  });
export type DemoOptions = z.infer<typeof demoOptionsSchema>;
