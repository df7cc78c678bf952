/** Command line of train.ts. */
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { benchNetworks } from './networks.ts';

const count = z.coerce.number().int().positive();
const ids = benchNetworks.map(({ id }) => id);

const schema = z.object({
  json: z.string().optional(),
  networks: z
    .string()
    .transform((text) => text.split(','))
    .refine((names) => names.every((name) => ids.includes(name)), `networks are ${ids.join(', ')}`)
    .default(ids),
  pairs: count.default(7),
  /** Seconds that one turn of one side takes. */
  seconds: z.coerce.number().positive().default(2),
  threads: count.default(2),
  'micro-batch': count.optional(),
  quick: z.boolean().default(false),
  spinning: z.boolean().default(false),
  compile: z.boolean().default(false),
  'ours-only': z.boolean().default(false),
  'no-images': z.boolean().default(false),
});

export interface BenchOptions {
  jsonFile: string | undefined;
  networks: string[];
  pairs: number;
  turnSeconds: number;
  threads: number;
  microBatch: number | undefined;
  spinning: boolean;
  compile: boolean;
  images: boolean;
  /** Interpreter with PyTorch; undefined measures Anneal alone. */
  python: string | undefined;
}

export const usage = `npm run bench:train -- [options]
  --json FILE        write the results there
  --networks A,B     of ${ids.join(', ')}
  --pairs N          interleaved pairs of turns (7)
  --seconds S        length of one turn (2)
  --threads N        threads of each side (2)
  --micro-batch N    images computed at once, on Anneal's side
  --spinning         Anneal's threads wait for work by spinning
  --compile          measure torch.compile as well, apart
  --quick            3 pairs of half a second, no images
  --no-images        leave out import, decoding and augmentation
  --ours-only        without PyTorch
BENCH_PYTHON names a Python interpreter that has torch, numpy and safetensors.`;

/** @throws Error in one sentence when an option is wrong or BENCH_PYTHON is missing */
export function readOptions(args: readonly string[]): BenchOptions {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...{ json: text, networks: text, pairs: text, seconds: text, threads: text, 'micro-batch': text },
      ...{ quick: flag, spinning: flag, compile: flag, 'ours-only': flag, 'no-images': flag },
    },
  });
  const parsed = schema.safeParse(values);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`--${issue?.path.join('.')}: ${issue?.message}`);
  }
  const options = parsed.data;
  const python = options['ours-only'] ? undefined : process.env['BENCH_PYTHON'];
  if (!options['ours-only'] && !python) {
    throw new Error('Set BENCH_PYTHON to a Python interpreter that has PyTorch, or give --ours-only.');
  }
  return {
    jsonFile: options.json,
    networks: options.networks,
    pairs: options.quick ? Math.min(3, options.pairs) : options.pairs,
    turnSeconds: options.quick ? 0.5 : options.seconds,
    threads: options.threads,
    microBatch: options['micro-batch'],
    spinning: options.spinning,
    compile: options.compile,
    images: !options.quick && !options['no-images'],
    python,
  };
}
