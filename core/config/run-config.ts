/** Everything that the coordinator decides about a run; hashed and shown to each site before it trains. */
import { z } from 'zod';
import { defaultPurpose } from './consent-defaults.ts';
import { localTrainingSchema } from './local-training.ts';
import { loraSettingsShape, rankSchema } from './lora-settings.ts';
import { roundOptionsShape } from './round-options.ts';
import {
  choice,
  formatSetting,
  grouped,
  isChosen,
  type Setting,
  setting,
  settingAt,
  settingsOf,
  strategiesThat,
  strategyNameSchema,
  suitsStrategy,
  unwrap,
} from './setting.ts';

export const scheduleShapeSchema = choice({ cubic: 'Cubic', linear: 'Linear', cosine: 'Cosine' });
export type ScheduleShape = z.infer<typeof scheduleShapeSchema>;

/** Of a new run of which nobody says otherwise. */
export const defaultWeightCap = 3;

const rounds = (preset: number) => z.int().nonnegative().max(1000).default(preset);
const annealed = { for: strategiesThat.anneal };
const stage = { ...annealed, slider: [0, 100] } as const;
const lastBlocks = { ...annealed, when: ['initiatingMode', 'last-k'], slider: [1, 24] } as const;
const percent = { unit: 'share' } as const;
const fixedHere = { offered: false } as const;

/** The state of an earlier run with which a run begins. */
export interface StartState {
  runId: string;
  /** The round whose result it is, 0-based. */
  round: number;
  /** Of its file, as the sites fetch it. */
  sha256: string;
}

/** `round 3 of run ID, SHA-256 …`: a single setting that a person can read; see {@link startStateOf}. */
const startFromPattern = /^round ([1-9]\d{0,3}) of run ([\w-]{1,64}), SHA-256 ([0-9a-f]{64})$/;
const startFromSchema = z.string().max(200).regex(startFromPattern);

export const startFromText = ({ runId, round, sha256 }: StartState): string =>
  `round ${round + 1} of run ${runId}, SHA-256 ${sha256}`;

/** Null for a run that begins with what its seed gives. */
export function startStateOf({ startFrom }: { startFrom?: string }): StartState | null {
  const [, round, runId, sha256] = startFromPattern.exec(startFrom ?? '') ?? [];
  return sha256 === undefined ? null : { runId: runId!, round: Number(round) - 1, sha256 };
}

/** What a coordinator tells the people who are asked for approval; it asks for nothing. */
const letterShape = grouped('Letter to the sites', {
  title: setting(
    'Title. What the study is called, for the people who approve it.',
    z.string().max(120).default(''),
  ),
  note: setting('Note. A few sentences to the people who approve it.', z.string().max(2000).default(''), {
    long: true,
  }),
});

const methodShape = grouped('Method', {
  strategy: setting(
    'Method. How sites train and how their updates are merged.',
    strategyNameSchema.default('sa-fedlora'),
  ),
  baseId: setting('Base model. A model that every site has; see "anneal models list".', z.string().max(200), {
    ...fixedHere,
    flag: 'base',
  }),
  baseSha256: setting('Identity of the base model. A SHA-256.', z.string().regex(/^[0-9a-f]{64}$/), {
    ...fixedHere,
    flag: null,
  }),
  baseOrigin: setting(
    'Origin of the base model. Its licence, as the coordinator holds it.',
    z.string().max(500).default(''),
    { ...fixedHere, flag: null },
  ),
  classes: setting(
    'Class labels. Names of the classes, exactly as in the CSV files of the sites.',
    z.array(z.string().min(1).max(1000)).min(2).max(100_000),
  ),
  purpose: setting(
    'Purpose. The code that each consent must cover.',
    z.string().max(1000).default(defaultPurpose),
    fixedHere,
  ),
  /** Absent in most runs, and then in the contract, too: contracts of older versions keep their hash. */
  startFrom: z.exactOptional(
    setting(
      'Starts from. The result of a round of an earlier run, or else a fresh adapter.',
      startFromSchema,
      { ...fixedHere, flag: null, none: 'a fresh adapter' },
    ),
  ),
});

/** Absent in runs of before there were these, and then in their contracts, too. */
const startShape = grouped('Method', {
  headStart: z.exactOptional(
    setting(
      'Start of the classifier. From class means of the untrained network, which the sites send in the first round, or at random.',
      choice({ prototypes: 'Class means', random: 'Random' }),
      { byDefault: 'class means where the classifier is shared, without privacy noise', none: 'random' },
    ),
  ),
  gallery: z.exactOptional(
    setting(
      'Gallery. In which rounds each held-out image is looked up among the training images of its site.',
      choice({ ends: 'Before and after training', every: 'In every round', off: 'Never' }),
      { byDefault: 'before and after training', none: 'never' },
    ),
  ),
  flipAveraging: z.exactOptional(
    setting(
      'Flip averaging. With it an evaluation sees each image and its mirror image, averages what both give, and takes twice as long.',
      choice({ on: 'With the mirror image', off: 'Each image as it is' }),
      { byDefault: 'off', none: 'off' },
    ),
  ),
});

const scheduleShape = grouped('Schedule', {
  rounds: setting('Rounds. In the whole run.', z.int().min(1).max(1000).default(10), { slider: [1, 100] }),
  shape: setting(
    'How the rank shrinks. From the largest to the smallest.',
    scheduleShapeSchema.default('cubic'),
    {
      ...annealed,
      flag: 'schedule',
    },
  ),
  rMax: loraSettingsShape.rMax,
  rMin: loraSettingsShape.rMin,
  initiatingRounds: setting('Initiating rounds. They give the sites a common start.', rounds(2), stage),
  heatingRounds: setting('Heating rounds. At the largest rank.', rounds(0), stage),
  coolingRounds: setting('Cooling rounds. At the smallest rank.', rounds(1), stage),
  initiatingMode: setting(
    'What trains in the initiating rounds. Every site has to approve sending network weights.',
    choice({
      lora: 'Adapter at its largest rank',
      full: 'All weights of the network',
      'last-k': 'The last blocks of the network',
    }).default('lora'),
    annealed,
  ),
  lastK: setting('Last blocks that train. Only in the mode "last-k".', rounds(2), lastBlocks),
});

const participantsShape = grouped('Who takes part', {
  participation: setting(
    'Sites that train in a round. A share, drawn again for each round; never fewer than the quorum.',
    z.number().gt(0).max(1).default(1),
    { ...percent, slider: [0.05, 1, 0.05] },
  ),
  quorum: setting(
    'Quorum. Sites needed to open a round and to close it.',
    z.int().min(1).max(10_000).default(1),
    { byDefault: 'two thirds of them, three or more where there are so many' },
  ),
  weighting: setting(
    'How much a site counts. The weight of its update.',
    choice({ examples: 'By number of images', equal: 'All sites equally' }).default('examples'),
  ),
  /** Null in runs of before there was a limit; the coordinator gives new runs one. */
  weightCap: setting(
    'Largest number of images that counts. A multiple of the median of the sites, for updates and evaluations; a site cannot decide a result by claiming more.',
    z.number().min(1).max(1e6).nullable().default(null),
    { byDefault: String(defaultWeightCap), none: 'no limit' },
  ),
  roundDeadlineMs: setting(
    'Round deadline. The round then closes with the updates that have arrived, if they make a quorum.',
    z.int().positive().max(2_147_483_647).default(1_800_000),
    { unit: 'minutes' },
  ),
  smallCell: setting(
    'Smallest count. Counts below this never leave a site.',
    z.int().min(1).max(1e6).default(5),
  ),
});

const mergingShape = grouped('Merging', {
  allocation: setting(
    "Ranks of individual layers. A round's rank budget is spread evenly, or by the largest singular values of all layers.",
    choice({
      uniform: 'The same rank for every layer',
      spectral: 'More rank where it matters most',
    }).default('uniform'),
    annealed,
  ),
  /** `drop`: as in the paper. `freeze`: a part of the run's frozen base delta, which every site fetches once. */
  cutOff: setting(
    'When the rank falls. What happens to the directions that are cut off.',
    choice({ drop: 'Dropped from the model', freeze: 'Kept, but no longer trained' }).default('drop'),
    annealed,
  ),
  /** As in ffa-lora. When the rank falls, A rotates within the space of its seeded rows. */
  freezeA: setting(
    'Train only one factor of the adapter. Factor A keeps its random start and never travels; noise does less harm.',
    z.boolean().default(false),
    annealed,
  ),
});

/** Settings with defaults may be missing in runs that were stored before those settings existed. */
export const runConfigSchema = z.strictObject({
  ...letterShape,
  ...methodShape,
  ...startShape,
  ...scheduleShape,
  ...roundOptionsShape,
  ...participantsShape,
  ...mergingShape,
  ...loraSettingsShape,
  siteRanks: setting(
    "Largest ranks of individual sites. Other sites use the round's rank.",
    z.record(z.string().max(200), rankSchema).default({}),
    { group: 'Adapter', for: strategiesThat.takeSiteRanks },
  ),
  training: localTrainingSchema.prefault({}),
  ...grouped('Training at the sites', {
    proximal: setting(
      'Proximal term. FedProx λ towards the shared model, in the initiating stage and in every round of fedprox-full.',
      z.number().nonnegative().max(1e6).default(0.01),
      { for: strategiesThat.pull },
    ),
    finalLearningRateShare: setting(
      'Final learning rates. As a share of the first ones; they fall along a cosine.',
      z.number().min(0).max(1).default(1),
      percent,
    ),
    seed: setting('Seed. The same seed gives the same random numbers.', z.int().default(1)),
  }),
});
export type RunConfig = z.infer<typeof runConfigSchema>;

/** Rounds that come before training: one in which the head's start is made. */
export const preparingRounds = ({ headStart }: Pick<RunConfig, 'headStart'>): number =>
  headStart === 'prototypes' ? 1 : 0;

/** Whether the state of a round is looked up in galleries. @param round with which it starts @param isLast it starts none */
export function usesGallery(
  { gallery = 'off' }: Pick<RunConfig, 'gallery'>,
  round: number,
  isLast: boolean,
): boolean {
  return gallery === 'every' || (gallery === 'ends' && (isLast || round === 0));
}

/** Every single setting of a run, in the order of the form and the documentation. */
export const runSettingList = settingsOf(runConfigSchema.shape);

const unnamedConfigSchema = runConfigSchema.omit({ baseId: true, baseSha256: true, classes: true });

/** What has no default: the base model and the classes. */
export type RunConfigStart = Pick<RunConfig, 'baseId' | 'baseSha256' | 'classes'> & Partial<RunConfig>;

/** Fills in the defaults; does not validate (see {@link runConfigSchema}). */
export const defaultRunConfig = (start: RunConfigStart): RunConfig => ({
  ...unnamedConfigSchema.parse({}),
  ...start,
});

type Written<S extends z.ZodRawShape> = {
  [K in keyof S]: z.ZodExactOptional<
    S[K] extends
      | z.ZodDefault<infer T extends z.core.SomeType>
      | z.ZodPrefault<infer T extends z.core.SomeType>
      | z.ZodExactOptional<infer T extends z.core.SomeType>
      ? T
      : S[K]
  >;
};

/** A shape whose values may all be absent, and stay absent: what was not said can follow from what was. */
const written = <S extends z.ZodRawShape>(shape: S) =>
  Object.fromEntries(
    Object.entries(shape).map(([key, outer]) => [key, z.exactOptional(unwrap(outer).schema)]),
  ) as Written<S>;

/** What a coordinator may choose when starting a run; everything else has a default. What it starts from is chosen apart. */
export const runSettingsSchema = z
  .strictObject(written(runConfigSchema.shape))
  .omit({ baseSha256: true, baseOrigin: true, startFrom: true })
  .extend({ training: z.exactOptional(z.strictObject(written(localTrainingSchema.shape))) });
export type RunSettings = z.infer<typeof runSettingsSchema>;

export interface SettingLine extends Pick<Setting, 'group' | 'label'> {
  value: string;
}

/** The settings that mean something in a run, as a person reads them. */
export function describeSettings(config: RunConfig): SettingLine[] {
  return runSettingList
    .filter((entry) => suitsStrategy(entry, config) && isChosen(entry, config))
    .map((entry) => {
      const { group, label, path } = entry;
      return { group, label, value: formatSetting(entry, settingAt(config, path)) };
    });
}
