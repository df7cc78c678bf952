/** The rights of subjects as a running agent keeps them: erasures go on, crops go when they are due. */
import { toAppError } from '../shared/errors.ts';
import { collectBlobs } from '../store/retention.ts';
import { type ClockTrust, createClockTrust } from './clock-trust.ts';
import { dropDueCrops } from './crop-retention.ts';
import { createEraser, type Eraser, type EraserOptions } from './erase.ts';

export interface RightsOptions extends EraserOptions {
  /** Something that the screens show has changed. */
  onChange(): void;
}

export interface Rights extends Eraser {
  readonly clock: ClockTrust;
  /** Subjects whose crops wait for the clock to be trusted. */
  readonly waiting: number;
  /** Deletes the crops that are due now, and what an unfinished erasure has left. */
  look(): Promise<void>;
  /** Begins to look by itself: at each change of a consent, when the next crops are due, and each hour. */
  start(): void;
  close(): Promise<void>;
}

const hourMs = 3_600_000;

export function createRights(options: RightsOptions): Rights {
  const { store, blobs, logger } = options;
  const eraser = createEraser(options);
  const clock = createClockTrust(store);
  let waiting = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopListening = () => {};
  let looking = Promise.resolve();
  let isClosed = false;

  async function lookOnce(): Promise<void> {
    if (isClosed) return;
    try {
      await eraser.resume();
      const pass = dropDueCrops(store, { trustsClock: clock.look() });
      waiting = pass.waiting;
      if (pass.images > 0) {
        await collectBlobs(store, blobs, pass.files);
        logger.info({ images: pass.images }, 'crops were deleted: no consent holds any more');
        options.onChange();
      }
      schedule(pass.nextAt);
    } catch (error) {
      logger.warn({ error: toAppError(error) }, 'crops that are due were not deleted; it is tried again');
      schedule(null);
    }
  }

  function schedule(nextAt: string | null): void {
    clearTimeout(timer);
    if (isClosed) return;
    const untilNext = nextAt === null ? hourMs : Date.parse(nextAt) - Date.parse(store.now());
    const inMs = Math.min(hourMs, Math.max(0, untilNext));
    timer = setTimeout(() => void look(), inMs).unref();
  }

  function look(): Promise<void> {
    looking = looking.then(lookOnce);
    return looking;
  }

  return {
    ...eraser,
    clock,
    get waiting() {
      return waiting;
    },
    look,
    start() {
      // After those who train have heard of it.
      stopListening = store.consentEvents.onAppend(() => setImmediate(() => void look()));
      void look();
    },
    async close() {
      isClosed = true;
      clearTimeout(timer);
      stopListening();
      await looking;
    },
  };
}
