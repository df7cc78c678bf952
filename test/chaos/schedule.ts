/**
 * What goes wrong and when: a pure function of a seed. Times are relative to the beginning of an episode, and what is drawn
 * for an episode depends on the seed and its number alone, so that a failing one is played again without those before it.
 */
import { createRandom, mixSeed, type Random } from '../../core/shared/random.ts';

/** An agent of the federation; sites by number. */
export type Member = 'coordinator' | `site-${number}`;

export type Fault = {
  atMs: number;
} /** `kill -9` of the agent alone; it is started again after a while. */ & (
  | { kind: 'kill'; member: Member; downMs: number }
  /** SIGSTOP, and SIGCONT later. */
  | { kind: 'freeze'; member: Member; frozenMs: number }
  /** As an operating system ends it, and a start. */
  | { kind: 'restart'; member: Member; downMs: number }
  /** `kill -9` of the trainer of a site, if it has one. */
  | { kind: 'kill-trainer'; member: Member }
  /** Between a site and the broker: bytes come late and slowly. */
  | { kind: 'slow-link'; member: Member; lastsMs: number; delayMs: number; bytesPerSecond: number }
  /** Connections are reset, and new ones for a while, too. */
  | { kind: 'reset-link'; member: Member; lastsMs: number; everyMs: number }
  /** Connections stay open, and nothing passes. */
  | { kind: 'black-hole'; member: Member; lastsMs: number }
  /** No byte more fits on the disk of the data folder but these. */
  | { kind: 'full-disk'; member: Member; lastsMs: number; leftKib: number }
  /** The clock of a process is wrong for a while. */
  | { kind: 'clock-jump'; member: Member; lastsMs: number; offsetMs: number }
  /** One bit of a file at rest, while the process is down. `pick` chooses the file and the place in it, both in [0, 1). */
  | { kind: 'bit-flip'; member: Member; downMs: number; pick: [file: number, place: number] }
  /**
   * The data folder goes back to what it was `ageMs` ago: to a copy of a folder on which nobody ran, as of a disk's snapshot, or to
   * a backup that Anneal made online.
   */
  | { kind: 'restore'; member: Member; from: 'copy' | 'backup'; ageMs: number; downMs: number }
  /** A subject of a site withdraws; `subject` in [0, 1) chooses whom. */
  | { kind: 'withdraw'; member: Member; subject: number }
  /** Whoever withdrew first of those that have consents again. */
  | { kind: 'consent-again'; member: Member }
  /** The external broker dies with its queues, and comes back. */
  | { kind: 'kill-broker'; downMs: number }
);

export type FaultKind = Fault['kind'];

/** How often each kind is drawn, among those that are enabled. */
const weights: Record<FaultKind, number> = {
  kill: 10,
  freeze: 4,
  restart: 4,
  'kill-trainer': 4,
  'slow-link': 3,
  'reset-link': 3,
  'black-hole': 2,
  'full-disk': 3,
  'clock-jump': 3,
  'bit-flip': 3,
  restore: 3,
  withdraw: 3,
  'consent-again': 2,
  'kill-broker': 0,
};

export const faultKinds = Object.keys(weights) as FaultKind[];

export interface ScheduleOptions {
  seed: number;
  /** 0-based. */
  episode: number;
  sites: number;
  /** For so long new faults begin. */
  lengthMs: number;
  /** Mean time from one fault to the next. */
  everyMs: number;
  kinds: readonly FaultKind[];
  /** Of the external broker: killed at random times that are so far apart. */
  brokerEveryMs?: readonly [least: number, most: number];
}

const twoDaysMs = 2 * 86_400_000;

/** Faults by the time at which they begin. */
export function scheduleOf(options: ScheduleOptions): Fault[] {
  const { seed, episode, sites, lengthMs, everyMs, kinds, brokerEveryMs } = options;
  const random = createRandom(mixSeed('chaos', seed, episode));
  const faults: Fault[] = [];
  const drawn = kinds.filter((kind) => weights[kind] > 0);
  for (let atMs = 0; drawn.length > 0; ) {
    atMs += Math.round(everyMs * (0.5 + random.uniform()));
    if (atMs >= lengthMs) break;
    faults.push({ atMs, ...drawFault(random, drawKind(random, drawn), sites) } as Fault);
  }
  if (kinds.includes('kill-broker') && brokerEveryMs !== undefined) {
    const [least, most] = brokerEveryMs;
    const apart = () => least + Math.round((most - least) * random.uniform());
    for (let atMs = apart(); atMs < lengthMs; atMs += apart())
      faults.push({ atMs, kind: 'kill-broker', downMs: between(random, 100, 3_000) });
  }
  return faults.sort((a, b) => a.atMs - b.atMs);
}

function drawKind(random: Random, kinds: readonly FaultKind[]): FaultKind {
  const total = kinds.reduce((sum, kind) => sum + weights[kind], 0);
  let left = random.uniform() * total;
  for (const kind of kinds) {
    left -= weights[kind];
    if (left < 0) return kind;
  }
  return kinds.at(-1)!;
}

const between = (random: Random, least: number, most: number) =>
  Math.round(least + (most - least) * random.uniform());

/** Short most of the time, long now and then. */
const mostlyShort = (random: Random, least: number, most: number) =>
  Math.round(least * (most / least) ** random.uniform());

type Drawn<F = Fault> = F extends unknown ? Omit<F, 'atMs'> : never;

function drawFault(random: Random, kind: FaultKind, sites: number): Drawn {
  const site = (): Member => `site-${random.integer(sites)}`;
  // The coordinator is as likely as all sites together: most of what can go wrong is there.
  const member = (): Member => (random.uniform() < 0.5 ? 'coordinator' : site());
  switch (kind) {
    case 'kill':
    case 'restart':
      return { kind, member: member(), downMs: mostlyShort(random, 50, 20_000) };
    case 'freeze':
      return { kind, member: member(), frozenMs: mostlyShort(random, 200, 15_000) };
    case 'kill-trainer':
      return { kind, member: site() };
    case 'slow-link': {
      const [lastsMs, delayMs] = [between(random, 3_000, 15_000), mostlyShort(random, 20, 2_000)];
      return {
        kind,
        member: site(),
        lastsMs,
        delayMs,
        bytesPerSecond: mostlyShort(random, 8_192, 1_000_000),
      };
    }
    case 'reset-link':
      return {
        ...{ kind, member: site(), lastsMs: between(random, 1_000, 10_000) },
        everyMs: mostlyShort(random, 50, 3_000),
      };
    case 'black-hole':
      return { kind, member: site(), lastsMs: mostlyShort(random, 1_000, 20_000) };
    case 'full-disk':
      return {
        ...{ kind, member: member(), lastsMs: between(random, 2_000, 12_000) },
        leftKib: random.uniform() < 0.5 ? 0 : mostlyShort(random, 1, 512),
      };
    case 'clock-jump': {
      const sizeMs = random.uniform() < 0.5 ? twoDaysMs : between(random, 60_000, 3_600_000);
      const offsetMs = random.uniform() < 0.5 ? sizeMs : -sizeMs;
      return { kind, member: member(), lastsMs: between(random, 3_000, 15_000), offsetMs };
    }
    case 'bit-flip':
      return {
        ...{ kind, member: member(), downMs: mostlyShort(random, 50, 2_000) },
        pick: [random.uniform(), random.uniform()],
      };
    case 'restore':
      return {
        ...{ kind, member: member(), from: random.uniform() < 0.5 ? 'copy' : 'backup' },
        ...{ ageMs: mostlyShort(random, 500, 20_000), downMs: mostlyShort(random, 50, 2_000) },
      };
    case 'withdraw':
      return { kind, member: site(), subject: random.uniform() };
    case 'consent-again':
      return { kind, member: site() };
    case 'kill-broker':
      return { kind, downMs: between(random, 100, 3_000) };
  }
}

/** A fault in a line of the report. */
export function describeFault({ atMs, kind, ...rest }: Fault): string {
  const details = Object.entries(rest).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
  return `${(atMs / 1000).toFixed(2).padStart(7)} s  ${kind}  ${details.join(', ')}`;
}
