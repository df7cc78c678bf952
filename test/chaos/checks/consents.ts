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

/**
 * What was confirmed to a person stands in the store: each act, and above all the last one. Where the folder went back in time, a
 * person has recorded again what it lost; earlier acts of the same subject are in no other place.
 */
export function keptDecisions({ sites, consents, everRestored }: Evidence): Violation[] {
  return sites.flatMap(({ member, store }) => {
    const own = consents.filter((one) => one.member === member);
    return [...Map.groupBy(own, ({ pseudonym }) => pseudonym)].flatMap(([pseudonym, said]) => {
      const subject = store.subjects.byPseudonym(pseudonym);
      const events = subject === null ? [] : store.consentEvents.ofSubject(subject.id);
      const found: Violation[] = [];
      const lost = (act: string, askedAt: number) => {
        const what = `${member}: a confirmed ${act} of ${new Date(askedAt).toISOString()} is not in the store`;
        found.push({ invariant: 'consent', what });
      };
      const last = said.at(-1)!;
      if (last.confirmedAt !== null && events.at(-1)?.kind !== last.act) lost(last.act, last.askedAt);
      if (everRestored.has(member)) return found;
      for (const act of ['withdraw', 'grant'] as const) {
        const wanted = said.filter((one) => one.act === act && one.confirmedAt !== null);
        // The first grant came with the images.
        const kept = events.filter(({ kind }) => kind === act).length - (act === 'grant' ? 1 : 0);
        if (kept < wanted.length) lost(act, wanted[kept]!.askedAt);
      }
      return found;
    });
  });
}

const roundDetails = z.object({ runId: z.string(), round: z.int() });

/**
 * A site whose folder went back in time notices it, where anybody can know; and what it has announced since its start is taken
 * back before a person has compared the consents and confirmed it.
 */
export function stoppedSites({ sites, restores, restored }: Evidence): Violation[] {
  return sites.flatMap((site) => {
    const last = restores.findLast(({ member }) => member === site.member);
    if (last === undefined) return [];
    const violated = (what: string): Violation[] => [
      { invariant: 'consent', what: `${site.member}: ${what}` },
    ];
    const announced = new Set<string>();
    let isNoticed = false;
    for (const { seq, action, details } of site.store.audit.raw()) {
      if (action === 'store-went-back' && seq > last.lastRow - 2) isNoticed = true;
      if (seq <= last.lastRow) continue;
      if (action === 'restore-confirmed') break;
      if (action !== 'update-announced' && action !== 'round-restarted') continue;
      const { runId, round } = roundDetails.parse(JSON.parse(details));
      if (action === 'update-announced') announced.add(`${round} of ${runId}`);
      else announced.delete(`${round} of ${runId}`);
    }
    // A coordinator that went back as well has forgotten what it heard.
    if (!isNoticed)
      return last.hadSaid && !restored.has('coordinator') ? violated('went back in time unnoticed') : [];
    if (last.confirmedAt === null) return violated('went back in time, and nobody was asked');
    return announced.size === 0
      ? []
      : violated(
          `went back in time, and announced round ${[...announced].join(', ')} before it was confirmed`,
        );
  });
}

/** For so long after a withdrawal a last piece of an update may still be under way: links and processes stand still at most so long. */
const underWayMs = 60_000;
const receivedDetails = z.object({ runId: z.string(), round: z.int(), update: z.string() });

/** What was announced before a withdrawal and not received is taken back: the coordinator does not get it later. */
export function servedUpdates({ coordinator, sites, consents, inflicted, runIds }: Evidence): Violation[] {
  const wrongClocks = new Set(
    inflicted.flatMap(({ fault }) => (fault.kind === 'clock-jump' ? [fault.member as string] : [])),
  );
  // Where a clock was wrong, times of two machines say nothing.
  if (wrongClocks.has('coordinator')) return [];
  const received = [...coordinator.store.audit.raw()].filter(({ action }) => action === 'update-received');
  const judged = sites.filter(({ member }) => !wrongClocks.has(member));
  return judged.flatMap((site) =>
    received
      .filter(({ actor }) => actor === site.siteId)
      .flatMap(({ at, details }) => {
        const { runId, round, update } = receivedDetails.parse(JSON.parse(details));
        // Those of earlier episodes were looked at then.
        if (!runIds.includes(runId)) return [];
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
