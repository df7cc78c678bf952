/** How each kind of fault is inflicted, and taken away again: one file a kind, or a family of kinds. */
import type { Federation } from '../federation.ts';
import type { Fault, FaultKind, Member } from '../schedule.ts';
import { flipBit } from './bit-flip.ts';
import { jumpClock } from './clock.ts';
import { consentAgain, withdraw } from './consents.ts';
import { fillDiskFor } from './full-disk.ts';
import { blackHole, resetLink, slowLink } from './links.ts';
import { freeze, kill, killBroker, killTrainer, restart } from './processes.ts';
import { restoreFolder } from './restore.ts';

/** What people did and were told, as the schedule saw it: an oracle beside the stores. */
export interface ConsentEntry {
  member: Member;
  pseudonym: string;
  act: 'withdraw' | 'grant';
  askedAt: number;
  /** When the site said that it is recorded; null: it never said so. */
  confirmedAt: number | null;
  /** Somebody is still trying. */
  isOpen?: boolean;
}

/** A data folder that went back in time. */
export interface RestoreEntry {
  member: Member;
  /** What came to be between these two is lost, ms since the epoch. */
  copiedAt: number;
  restoredAt: number;
  /** Whether the others heard of it in between, or Anneal itself restored it: it has to notice then. */
  hadSaid: boolean;
  /** Number of the newest row of its audit trail when it was back. */
  lastRow: number;
  /** When a person confirmed it; null: nobody was asked. */
  confirmedAt: number | null;
}

/** A file with one other bit. */
export interface FlipEntry {
  member: Member;
  /** In the data folder. */
  file: string;
  /** Where it is as it was. */
  original: string;
  /** SHA-256 of the damaged bytes. */
  damaged: string;
}

/** For so long a site could not take part, because something waited for a person, ms since the epoch. */
export interface Wait {
  member: Member;
  beganAt: number;
  endedAt: number;
}

export interface World {
  federation: Federation;
  consents: ConsentEntry[];
  /** Of all episodes. */
  restores: RestoreEntry[];
  flips: FlipEntry[];
  waits: Wait[];
  /** Since when the clock of a member was set wrong for the first time that nobody has confirmed since. */
  clocksWrongSince: Map<Member, number>;
  /** One line of what a fault came upon. */
  note(line: string): void;
}

export type Inflict<K extends FaultKind> = (
  world: World,
  fault: Extract<Fault, { kind: K }>,
) => Promise<void>;

const all: { [K in FaultKind]: Inflict<K> } = {
  kill,
  freeze,
  restart,
  'kill-trainer': killTrainer,
  'slow-link': slowLink,
  'reset-link': resetLink,
  'black-hole': blackHole,
  'full-disk': fillDiskFor,
  'clock-jump': jumpClock,
  'bit-flip': flipBit,
  restore: restoreFolder,
  withdraw,
  'consent-again': consentAgain,
  'kill-broker': killBroker,
};

/** Resolves when the fault is over. */
export function inflict<K extends FaultKind>(
  world: World,
  fault: Extract<Fault, { kind: K }>,
): Promise<void> {
  return (all[fault.kind] as Inflict<K>)(world, fault);
}
