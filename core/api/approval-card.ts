/** The letter that a site's people decide about: a run's contract in words, with this site's own numbers in it. */
import { describeSettings, type RunConfig } from '../config/run-config.ts';
import type { SitePolicy } from '../config/site-policy.ts';
import { heldOutImages, trainingImages } from '../consent/cohort.ts';
import type { Catalogue } from '../models/catalogue.ts';
import { admit } from '../policy/cohort-rules.ts';
import { type Contract, contractSchema } from '../policy/contract.ts';
import { describeExcess } from '../policy/differences.ts';
import { whatLeaves } from '../policy/what-leaves.ts';
import { AppError } from '../shared/errors.ts';
import { beyondEarlier } from '../site/approval.ts';
import { alignmentOf, describeOlderCrops } from '../site/older-crops.ts';
import type { SiteNode } from '../site/site.ts';
import type { ContractRecord, ImageRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { consentNotes } from './consent-notes.ts';
import type { AgentContext } from './context.ts';
import type { ApprovalCard, ClassOnCard, DecisionRow } from './contract.ts';
import { sitePolicyView } from './policy-view.ts';

export interface CardOptions {
  store: ReadOnlyStore;
  catalogue: Catalogue;
  site: Pick<SiteNode, 'siteName'>;
  /** Called with a base model whose leak was never measured. */
  measureLeak(baseId: string): void;
  /** The federation's name. */
  federation: string;
}

/** Base models whose leak was asked for: one that cannot be measured is not tried at each look. */
const asked = new WeakMap<AgentContext, Set<string>>();

/** The card does not wait for it: whoever looks again finds it. */
export const measuringLeaks = (agent: AgentContext) => (baseId: string) => {
  const known = asked.get(agent) ?? new Set();
  if (known.has(baseId)) return;
  asked.set(agent, known.add(baseId));
  agent
    .leakOf(baseId)
    .then(() => agent.emit({ type: 'changed', what: 'run' }))
    .catch(() => {});
};

/** @throws AppError NOT_FOUND when no run of this contract has asked */
export async function cardOf(options: CardOptions, contractSha256: string): Promise<ApprovalCard> {
  const record = options.store.contracts.bySha(contractSha256);
  if (record === null) throw new AppError('NOT_FOUND', 'No run with this contract has asked this site.');
  return describeContract(options, record);
}

/** The request that waits for a person, if there is one. */
export async function pendingCard(options: CardOptions & { site: SiteNode }): Promise<ApprovalCard | null> {
  const { manifest, activity } = options.site;
  if (manifest === null || activity !== 'approval-needed') return null;
  const record = options.store.contracts.get(manifest.runId);
  // Without its base model the contract cannot be derived yet; the site's problem says what to import first.
  return record === null ? null : describeContract(options, record);
}

async function describeContract(
  { store, catalogue, site, federation, measureLeak }: CardOptions,
  record: ContractRecord,
): Promise<ApprovalCard> {
  const contract = contractSchema.parse(record.document);
  const { settings: config, baseModel, leaves } = contract;
  const { policy, version } = sitePolicyView(store);
  const held = await heldModel(catalogue, config);
  const leak = held === null ? null : await catalogue.keptLeak(held.id);
  if (held !== null && leak === null) measureLeak(held.id);
  const { rounds } = leaves;
  const ranks = rounds.map(({ rank }) => rank);
  return {
    contractSha256: record.sha256,
    runId: record.runId,
    askedAt: record.createdAt,
    title: config.title,
    note: config.note,
    askedBy: federation,
    purpose: config.purpose,
    ...ownCounts(store, contract, policy),
    base: {
      ...baseModel,
      importedAt: held?.importedAt ?? null,
      isBuiltIn: held?.format === 'built-in',
      leak,
    },
    ...whatLeaves(contract, site.siteName),
    leavingRounds: rounds,
    leavingTensors: leaves.tensors,
    precision: leaves.precision,
    bytes: leaves.bytes,
    rank: { first: ranks[0] ?? 0, last: ranks.at(-1) ?? 0 },
    bytesPerRound: { first: rounds[0]?.bytes ?? 0, last: rounds.at(-1)?.bytes ?? 0 },
    rounds: config.rounds,
    minContributors: contract.minContributors,
    evaluations: evaluationsOf(contract, policy),
    // The letter begins with these.
    settings: describeSettings(config).filter(({ group }) => group !== 'Letter to the sites'),
    limits: limitsOf(config),
    beyondEarlier: describeExcess(beyondEarlier(store, contract)),
    policyVersion: version,
    consentNotes: [...consentNotes(store, record.runId, config), ...olderCropNotes(store, contract)],
  };
}

/** Null when the base model was removed here since. */
async function heldModel(catalogue: Catalogue, { baseId, baseSha256 }: RunConfig) {
  const id = await catalogue.resolve(baseId, baseSha256).catch((thrown: unknown) => {
    if (thrown instanceof AppError && thrown.code === 'MODEL_UNKNOWN') return null;
    throw thrown;
  });
  return (await catalogue.list()).find((entry) => entry.id === id) ?? null;
}

const subjectsIn = (images: readonly ImageRecord[]) => new Set(images.map(({ subjectId }) => subjectId)).size;

/** "65 of your 90 images, 18 of 20 subjects": what of this site would train now. */
function ownCounts(store: ReadOnlyStore, contract: Contract, policy: SitePolicy) {
  const { settings: config } = contract;
  const alignment = alignmentOf(contract);
  const { purpose, classes } = config;
  const request = { runId: '', round: 0, purpose, labels: classes, at: store.clock.latest(), alignment };
  const consented = trainingImages(store, request);
  const { images, leftOut, refusal } = admit(consented, config, policy);
  const heldOut = heldOutImages(store, request);
  const all = store.images.list({ split: 'train', status: 'ready' });
  const byLabel = Map.groupBy(consented, ({ label }) => label);
  const tooFew = new Set(leftOut.map(({ label }) => label));
  return {
    classes: classes.map((label): ClassOnCard => {
      const own = byLabel.get(label) ?? [];
      return {
        label,
        images: own.length,
        subjects: subjectsIn(own),
        heldOut: heldOut.filter((image) => image.label === label).length,
        trains: own.length > 0 && !tooFew.has(label),
      };
    }),
    images: { used: images.length, all: all.length, heldOut: heldOut.length },
    subjects: { used: subjectsIn(images), all: subjectsIn(all) },
    /** Why this site would not train on what it has now. */
    cannotTrain: refusal?.toReport() ?? null,
  };
}

/** What of this site the base model cannot use. */
function olderCropNotes(store: ReadOnlyStore, contract: Contract): string[] {
  const { purpose, classes: labels } = contract.settings;
  const request = { runId: '', round: 0, purpose, labels, at: store.clock.latest() };
  const all = [...trainingImages(store, request), ...heldOutImages(store, request)];
  const words = describeOlderCrops(all, alignmentOf(contract));
  return words === null ? [] : [words];
}

function evaluationsOf({ settings }: Contract, { evaluations }: SitePolicy): string {
  const asked = `The run asks for one evaluation in each of its ${settings.rounds} rounds, and one at the end`;
  if (evaluations === 'none') return `${asked}. By your policy this site answers none of them.`;
  if (evaluations === 'end') return `${asked}. By your policy this site answers the one at the end only.`;
  return `${asked}.`;
}

/** What "approve within these limits" begins with: the run as it is. */
const limitsOf = ({ rounds, rMax, quorum, smallCell, classes, training }: RunConfig) => ({
  ...{ rounds, rMax, quorum, smallCell, classes },
  batchSize: training.batchSize,
  clipNorm: training.clipNorm,
});

/** Newest first. */
export function listDecisions(store: ReadOnlyStore): DecisionRow[] {
  return store.decisions.list().map(({ standing, ...row }) => {
    const contract = contractSchema.safeParse(store.contracts.get(row.runId)?.document).data;
    const limits = standing as { runs: number; until: string | null; granted: Contract } | null;
    return {
      ...row,
      title: contract?.settings.title ?? '',
      purpose: contract?.settings.purpose ?? '',
      standing:
        limits === null
          ? null
          : {
              ...limitsOf(limits.granted.settings),
              ...{ runs: limits.runs, until: limits.until },
              runsUsed: store.decisions.runsCoveredBy(row.id).size,
            },
    };
  });
}
