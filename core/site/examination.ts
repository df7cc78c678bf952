/** Looks at what a manifest asks for before this site works by it, and writes down what became of the question. */
import { runConfigSchema } from '../config/run-config.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { Catalogue } from '../models/catalogue.ts';
import { type Contract, contractHash, contractOf } from '../policy/contract.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { Store } from '../store/store.ts';
import type { ManifestBody } from '../transport/messages.ts';
import { beyondEarlier, judge, type Verdict } from './approval.ts';
import { createAskedLog } from './asked-log.ts';
import type { SiteOptions } from './site-node.ts';

interface ExaminationOptions extends Pick<SiteOptions, 'askedBy' | 'baseFacts' | 'autoApprove'> {
  store: Store;
  catalogue: Catalogue;
}

export interface Examination {
  /** @throws AppError MODEL_UNKNOWN when the base model is not here, and what loading or measuring it throws */
  verdictOn(manifest: ManifestBody, now: Date): Promise<Verdict>;
  /** Once for each reason: a coordinator that repeats itself does not fill the trail. */
  recordRefusal(manifest: ManifestBody, error: ErrorReport): void;
  recordUnreadable(error: ErrorReport): void;
}

export function createExamination(options: ExaminationOptions): Examination {
  const { store, catalogue, askedBy } = options;
  const asked = createAskedLog(store);
  /** Of the newest run: every manifest of it names the same. */
  let derived: { configSha256: string; model: BaseModel; contract: Contract; sha256: string } | null = null;

  /** From the settings and this site's own base model. */
  function contractFor({ config, configSha256 }: ManifestBody, model: BaseModel) {
    if (derived?.configSha256 !== configSha256 || derived.model !== model) {
      const contract = contractOf(runConfigSchema.parse(config), model, askedBy);
      derived = { configSha256, model, contract, sha256: contractHash(contract) };
    }
    return derived;
  }

  function recordRefusal(
    { runId, round, contractSha256 }: ManifestBody,
    { code, message }: ErrorReport,
  ): void {
    const details = { runId, round, contract: contractSha256, code, reason: message };
    asked.write(`${runId} ${message}`, 'manifest-refused', details);
  }

  /** That a person was asked, and what for beyond what was approved before. */
  function recordQuestion({ runId, contractSha256 }: ManifestBody, contract: Contract): void {
    const more = beyondEarlier(store, contract).map(({ path }) => path);
    const details = { runId, contract: contractSha256, ...(more.length > 0 && { beyondEarlier: more }) };
    asked.write(`${runId} ${contractSha256}`, 'approval-asked', details);
  }

  return {
    recordRefusal,
    recordUnreadable: ({ code, message }) =>
      asked.write(message, 'manifest-refused', { code, reason: message }),
    async verdictOn(manifest, now) {
      const { config } = manifest;
      const baseId = await catalogue.resolve(config.baseId, config.baseSha256);
      const { contract, sha256 } = contractFor(manifest, await catalogue.load(baseId));
      const base = await options.baseFacts(baseId);
      const automatic = options.autoApprove === true;
      const verdict = judge(store, manifest, { contract, sha256 }, { base, automatic, now });
      if (verdict.type === 'refused') recordRefusal(manifest, verdict.error);
      if (verdict.type === 'approvalMissing') recordQuestion(manifest, contract);
      return verdict;
    },
  };
}
