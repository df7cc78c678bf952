/** No update of somebody without a consent leaves, and no decision of a person is lost. */
import { z } from 'zod';
import { announcedBy, type Evidence, type OpenSite, type Violation } from './evidence.ts';

const consentDetails = z.object({ subject: z.string(), purpose: z.string() });
const announcedDetails = z.object({
  runId: z.string(),
  round: z.int(),
  update: z.string(),
  cohort: z.string(),
});

/** Walked in the order of the trail, which no clock can change: at each announcement everybody in the cohort consents. */
export function consentedUpdates({ sites }: Evidence): Violation[] {
  return sites.flatMap((site) => {
    const found: Violation[] = [];
    const gone = new Set<string>();
    for (const { action, details, seq } of site.store.audit.raw()) {
      if (action === 'consent.withdrawn') gone.add(consentDetails.parse(JSON.parse(details)).subject);
      else if (action === 'consent.granted') gone.delete(consentDetails.parse(JSON.parse(details)).subject);
      else if (action === 'update-announced') {
        const { runId, round, cohort } = announcedDetails.parse(JSON.parse(details));
        const without = subjectsOf(site, runId, round, cohort).filter((ref) => gone.has(ref));
        if (without.length > 0)
          found.push({
            invariant: 'consent',
            what: `${site.member}: announcement ${seq} (round ${round} of ${runId}) holds ${without.length} subject(s) without a consent`,
          });
      } else if (action === 'cohort.evaluated') {
        const { runId, state, cohortSha256 } = evaluatedDetails.parse(JSON.parse(details));
        const cohorts = site.store.evaluationCohorts.ofRun(runId);
        const counted = cohorts.find((one) => one.stateSha256 === state && one.sha256 === cohortSha256);
        const refs = counted === undefined ? [] : site.db.all(pseudonymRow, members, { id: counted.id });
        const without = refs.filter(({ pseudonym }) => gone.has(site.store.subjects.refOf(pseudonym)));
        if (without.length > 0)
          found.push({
            invariant: 'consent',
            what: `${site.member}: counts ${seq} of ${runId} are of ${without.length} image(s) without a consent`,
          });
      }
    }
    return found;
  });
}

const evaluatedDetails = z.object({ runId: z.string(), state: z.string(), cohortSha256: z.string() });
const pseudonymRow = z.object({ pseudonym: z.string() });
const members = `SELECT pseudonym FROM evaluation_members JOIN subjects ON subjects.id = subject_id WHERE cohort_id = @id`;

function subjectsOf({ store }: OpenSite, runId: string, round: number, cohortSha256: string): string[] {
  const cohort = store.cohorts.byRun(runId).find((one) => one.round === round && one.sha256 === cohortSha256);
  if (cohort === undefined) return [];
  return store.cohorts
    .subjects(cohort.id)
    .map((subjectId) => store.subjects.refOf(store.subjects.byId(subjectId)!.pseudonym));
}

/** A withdrawal that was confirmed to a person stands in the store, and nothing but a later grant ends it. */
export function keptDecisions({ sites, consents, restored }: Evidence): Violation[] {
  return sites.flatMap((site) => {
    if (restored.has(site.member)) return [];
    return consents
      .filter(({ member, confirmedAt }) => member === site.member && confirmedAt !== null)
      .flatMap(({ pseudonym, act, askedAt }) => {
        const subject = site.store.subjects.byPseudonym(pseudonym);
        const events = subject === null ? [] : site.store.consentEvents.ofSubject(subject.id);
        const saidOf = consents.filter(
          (one) => one.pseudonym === pseudonym && one.act === act && one.member === site.member,
        );
        const wanted = saidOf.filter(({ confirmedAt }) => confirmedAt !== null).length;
        const kept = events.filter(({ kind }) => kind === act).length - (act === 'grant' ? 1 : 0);
        if (kept >= wanted) return [];
        const what = `${site.member}: a confirmed ${act} of ${new Date(askedAt).toISOString()} is not in the store`;
        return [{ invariant: 'consent', what }];
      });
  });
}

/** For so long after a withdrawal a last piece of an update may still be under way: links and processes stand still at most so long. */
const underWayMs = 60_000;
const receivedDetails = z.object({ runId: z.string(), round: z.int(), update: z.string() });

/** What was announced before a withdrawal and not received is taken back: the coordinator does not get it later. */
export function servedUpdates({ coordinator, sites, consents, inflicted }: Evidence): Violation[] {
  // Where a clock was wrong, times of two machines say nothing.
  if (inflicted.some(({ fault }) => fault.kind === 'clock-jump')) return [];
  const received = [...coordinator.store.audit.raw()].filter(({ action }) => action === 'update-received');
  return sites.flatMap((site) =>
    received
      .filter(({ actor }) => actor === site.siteId)
      .flatMap(({ at, details }) => {
        const { runId, round, update } = receivedDetails.parse(JSON.parse(details));
        const one = announcedBy(site, runId).find(
          (row) => row.round === round && row.updateSha256 === update,
        );
        if (one === undefined) return [];
        const members = new Set(subjectsOf(site, runId, round, one.cohortSha256));
        const late = consents.some(
          ({ member, pseudonym, act, confirmedAt }) =>
            member === site.member &&
            act === 'withdraw' &&
            confirmedAt !== null &&
            confirmedAt >= Date.parse(one.announcedAt) &&
            Date.parse(at) > confirmedAt + underWayMs &&
            members.has(site.store.subjects.refOf(pseudonym)),
        );
        const what = `${site.member}: its update for round ${round} of ${runId} was received long after a withdrawal`;
        return late ? [{ invariant: 'consent', what }] : [];
      }),
  );
}
