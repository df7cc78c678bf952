/** How each kind of fault is inflicted, and taken away again: one file a kind, or a family of kinds. */
import type { Federation } from '../federation.ts';
import type { Fault, FaultKind, Member } from '../schedule.ts';
import { jumpClock } from './clock.ts';
import { consentAgain, withdraw } from './consents.ts';
import { flipBit, restoreFolder } from './files-at-rest.ts';
import { fillDiskFor } from './full-disk.ts';
import { blackHole, resetLink, slowLink } from './links.ts';
import { freeze, kill, killBroker, killTrainer, restart } from './processes.ts';

/** What people did and were told, as the schedule saw it: an oracle beside the stores. */
export interface ConsentEntry {
  member: Member;
  pseudonym: string;
  act: 'withdraw' | 'grant';
  askedAt: number;
  /** When the site said that it is recorded; null: it never said so. */
  confirmedAt: number | null;
}

export interface World {
  federation: Federation;
  consents: ConsentEntry[];
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
