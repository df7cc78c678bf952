/** What subjects consented to, purpose by purpose, and the time by which it is judged. */
import { z } from 'zod';
import { noticeDays } from '../config/consent-defaults.ts';
import { recordConsent, withdrawConsent } from '../consent/consent.ts';
import { expiringConsents } from '../consent/purposes.ts';
import { clockFault, confirmClock } from '../consent/site-clock.ts';
import { setTimeZone, siteTimeZone } from '../consent/site-zone.ts';
import { keepCrops } from '../rights/crop-retention.ts';
import { AppError } from '../shared/errors.ts';
import { consentGiverSchema } from '../store/records.ts';
import { consentsChanged } from './consents-changed.ts';
import type { AgentContext } from './context.ts';
import type { SiteTime } from './contract.ts';
import { listSubjects, subjectRow } from './site-view.ts';
import { administering, managing, router, viewing } from './trpc.ts';

const word = z.string().trim().min(1).max(200);
/** Read by core/consent, which knows the zone of the site. */
const dateText = z.string().trim().min(1).max(40);
const purpose = word.max(100);

const record = managing
  .input(
    z.strictObject({
      pseudonym: word,
      purpose,
      documentVersion: word.max(100),
      validFrom: dateText,
      expiresAt: dateText.nullish(),
      givenBy: consentGiverSchema.nullish(),
      verifiedOn: dateText.nullish(),
      reference: word.nullish(),
      /** Of a subject who has withdrawn: that this is a new consent; the id of the withdrawal that was shown, or true. */
      afterWithdrawal: z.union([z.boolean(), z.int().positive()]).default(false),
      /** Makes the subject; without it a pseudonym that nobody has is taken for a slip. */
      newSubject: z.boolean().default(false),
    }),
  )
  .mutation(({ ctx: { agent, actor }, input: { newSubject, ...grant } }) => {
    if (!newSubject && agent.store.subjects.byPseudonym(grant.pseudonym.normalize('NFC')) === null)
      throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${grant.pseudonym}".`, {
        action: 'Check the pseudonym in the dataset list. If the subject is new, say so with --new-subject.',
      });
    recordConsent(agent.store, { ...grant, recordedBy: actor });
    consentsChanged(agent);
    return subjectRow(agent.store, grant.pseudonym);
  });

const withdraw = managing
  .input(
    z.strictObject({
      pseudonym: word,
      /** From every purpose when absent. */
      purpose: purpose.optional(),
      /** When the subject withdrew, if that was before now. */
      date: dateText.nullish(),
      documentVersion: word.max(100).nullish(),
      reference: word.nullish(),
      /** The person wants the crops to stay, though nothing may use them. Without it they go with the last consent. */
      keepImages: z.boolean().default(false),
    }),
  )
  .mutation(({ ctx: { agent, actor }, input: { keepImages, ...input } }) => {
    const { store } = agent;
    store.withReserve(() =>
      store.transaction(() => {
        const subject = store.subjects.byPseudonym(input.pseudonym);
        if (keepImages && subject !== null) keepCrops(store, subject, true, actor);
        withdrawConsent(store, { ...input, recordedBy: actor });
      }),
    );
    consentsChanged(agent);
    return subjectRow(agent.store, input.pseudonym);
  });

export const consentRouter = router({
  /** A grant: the first one, a longer or shorter term, or a new consent after a withdrawal, which then says so. */
  record,
  /** From one purpose, or from all. */
  withdraw,
  /** Subjects with every purpose that something is recorded about. */
  list: viewing
    .input(
      z
        .strictObject({
          search: z.string().max(200).default(''),
          purpose: purpose.optional(),
          status: z.enum(['active', 'withdrawn', 'expired', 'none', 'not-yet-valid']).optional(),
        })
        .default({ search: '' }),
    )
    .query(({ ctx, input }) => {
      const rows = listSubjects(ctx.agent.store, input.search);
      const { purpose: only, status } = input;
      const ofPurpose = rows.map((row) => ({
        ...row,
        consents: row.consents.filter((one) => only === undefined || one.purpose === only),
      }));
      // Nothing is recorded about the purpose, or about any.
      if (status === 'none') return ofPurpose.filter(({ consents }) => consents.length === 0);
      if (status === undefined)
        return ofPurpose.filter(({ consents }) => only === undefined || consents.length > 0);
      return ofPurpose
        .map((row) => ({ ...row, consents: row.consents.filter((one) => one.status === status) }))
        .filter(({ consents }) => consents.length > 0);
    }),
  /** Consents that are active and end within some days, the earliest first. */
  expiring: viewing
    .input(
      z
        .strictObject({ days: z.number().min(0).max(36_600).default(noticeDays) })
        .default({ days: noticeDays }),
    )
    .query(({ ctx, input }) => expiringConsents(ctx.agent.store, input.days)),
  /** The zone in which dates are days here, and whether the clock is right. */
  time: viewing.query(({ ctx }) => siteTime(ctx.agent)),
  setTimeZone: administering
    .input(z.strictObject({ timeZone: z.string().trim().min(1).max(64) }))
    .mutation(({ ctx: { agent, actor }, input }) => {
      setTimeZone(agent.store, input.timeZone, actor);
      consentsChanged(agent);
      return siteTime(agent);
    }),
  /** Somebody has looked at the clock: it is right, and was wrong before. */
  confirmClock: administering.mutation(({ ctx: { agent, actor } }) => {
    const confirmed = confirmClock(agent.store, actor);
    if (confirmed !== null) {
      agent.siteDecided();
      consentsChanged(agent);
      agent.emit({ type: 'changed', what: 'status' });
    }
    return { ...siteTime(agent), confirmed };
  }),
});

const siteTime = ({ store }: AgentContext): SiteTime => ({
  now: store.now(),
  timeZone: siteTimeZone(store),
  problem: clockFault(store)?.toReport() ?? null,
});
