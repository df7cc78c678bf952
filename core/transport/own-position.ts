/** What this process says of where its store stands, and whether it is shown something that the store has lost. */
import { randomUUID } from 'node:crypto';
import { auditGenesisHash } from '../store/audit.ts';
import type { Store } from '../store/store.ts';
import type { MessageOrder } from './message-order.ts';
import { isSaidBy, type SignedPosition, type StandingPosition, signPosition } from './position.ts';
import type { Signer } from './signature.ts';
import { closeTrail, openTrail, type TrailHead } from './trail-box.ts';

/** What an envelope says of its place. */
export interface Stamp {
  order: MessageOrder;
  position?: SignedPosition;
}

export interface OwnPosition {
  /** Of this process; anew at each start. */
  readonly instance: string;
  /** For a message that others rely on: the counter grows, and is written with whatever the caller's transaction writes. */
  stamp(): Stamp;
  /** For what is said in between, and lost without harm. */
  hint(): Stamp;
  /** As it is now, without a new number. */
  statement(): SignedPosition;
  /** Whether one of these is a statement of this side, made by a state of its store that is not here any more. */
  lost(shown: readonly SignedPosition[]): SignedPosition | null;
  /** What was closed by this side and kept by another. */
  openTrails(boxes: readonly string[]): TrailHead[];
  /** A new life of the store: what this process says from now on has new numbers. */
  renew(): void;
}

/** @param run what the store says of the run in progress, for {@link StandingPosition} */
export function createOwnPosition(
  store: Pick<Store, 'position' | 'audit' | 'transaction'>,
  federation: string,
  signer: Signer,
  run: () => StandingPosition['run'],
): OwnPosition {
  const instance = randomUUID();
  let part = 0;
  store.position.begin(instance);

  function statement(): SignedPosition {
    const [newest] = store.audit.page({ limit: 1 });
    const head = { rows: newest?.seq ?? 0, head: newest?.hash ?? auditGenesisHash };
    const trail = closeTrail(head, signer);
    return signPosition({ ...store.position.get(), instance, run: run(), trail }, federation, signer);
  }

  function hint(): Stamp {
    part += 1;
    return { order: { ...store.position.get(), part } };
  }

  return {
    instance,
    hint,
    statement,
    stamp() {
      store.position.advance();
      return { ...hint(), position: statement() };
    },
    lost: (shown) =>
      shown.find((one) => isSaidBy(one, federation, signer) && !store.position.contains(one.position)) ??
      null,
    openTrails: (boxes) => boxes.flatMap((box) => openTrail(box, signer) ?? []),
    renew() {
      store.position.renew(instance);
    },
  };
}
