/** Options of `npm run chaos`. */
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { type FaultKind, faultKinds } from './schedule.ts';

/** Every kind; brokers are killed where there is one of its own. */
const everyKind: readonly FaultKind[] = faultKinds.filter((kind) => kind !== 'kill-broker');

const kindsSchema = z.string().transform((text, context): FaultKind[] => {
  if (text === 'all') return [...everyKind];
  const names = text.split(',').map((name) => name.trim());
  const unknown = names.filter((name) => !(faultKinds as readonly string[]).includes(name));
  if (unknown.length > 0)
    context.addIssue(`unknown kinds: ${unknown.join(', ')}; known: ${faultKinds.join(', ')}`);
  return names as FaultKind[];
});
const count = (least: number, most: number) => z.coerce.number().int().min(least).max(most);

const optionsSchema = z.strictObject({
  minutes: z.coerce.number().positive().max(10_000).default(5),
  seed: z.coerce
    .number()
    .int()
    .default(() => Math.floor(Math.random() * 1_000_000)),
  /** Only this episode, after the undisturbed run. */
  episode: count(0, 1_000_000).optional(),
  /** So many, counted from the first, however long they take. */
  episodes: count(1, 1_000_000).optional(),
  faults: kindsSchema.default(() => [...everyKind]),
  /** The federation's broker: the embedded one, or a Mosquitto that is killed every 5 to 20 s. */
  broker: z.enum(['embedded', 'mosquitto']).default('embedded'),
  sites: count(1, 10).default(3),
  rounds: count(1, 100).default(6),
  epochs: count(1, 50).default(4),
  'episode-seconds': z.coerce.number().positive().default(45),
  /** Mean time between faults. */
  'every-ms': count(100, 600_000).default(3_000),
  'settle-seconds': z.coerce.number().positive().default(150),
  /** Where the report goes as JSON. */
  json: z.string().optional(),
  /** Leaves the data folders where they are. */
  keep: z.boolean().default(false),
  /** Drives the reducers of rounds through so many orders of events, and nothing else. */
  orders: count(1, 1_000_000_000).optional(),
});
export type ChaosOptions = z.infer<typeof optionsSchema>;

/** @throws Error in words */
export function readOptions(given: readonly string[]): ChaosOptions {
  const text = { type: 'string' } as const;
  const names = Object.keys(optionsSchema.shape).filter((name) => name !== 'keep');
  const { values } = parseArgs({
    args: [...given],
    options: { ...Object.fromEntries(names.map((name) => [name, text])), keep: { type: 'boolean' } },
  });
  const parsed = optionsSchema.safeParse(values);
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return parsed.data;
}
