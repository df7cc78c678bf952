/**
 * What a site may do wrong before the coordinator stops listening to it for a while. Faults cost points; an honest site
 * on a bad line, or of another version, stays far below the budget. Only counted here: what follows is for the caller.
 */
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';

/**
 * `message`: not signed by the site, not as its schema says, or about a run that does not exist. `announcement`: an
 * update refused before its first byte. `update`: one refused once it was here. `chunk`: bytes that nobody asked for.
 */
export type Fault = 'message' | 'announcement' | 'update' | 'chunk';

/** `flood`: more messages than any site has to say. */
export type DismissalCause = Fault | 'flood';

export interface BudgetLimits {
  /** Points a site may lose within `windowSeconds`. */
  points: number;
  windowSeconds: number;
  /** Messages of any kind within a minute. */
  messagesPerMinute: number;
}

/**
 * A rejected update is a round's work lost, a stray chunk is what a slow line leaves behind. Whole numbers: the limiter
 * adds no others.
 */
const costs: Readonly<Record<Fault, number>> = { message: 40, announcement: 200, update: 200, chunk: 2 };

export const defaultBudget: BudgetLimits = { points: 1_000, windowSeconds: 600, messagesPerMinute: 3_000 };

const sentences: Readonly<Record<DismissalCause, string>> = {
  message: 'it sent too many messages that are not valid',
  announcement: 'it announced too many updates that cannot be right',
  update: 'too many of its updates were rejected',
  chunk: 'it sent too much data that nobody asked for',
  flood: 'it sent too many messages in a minute',
};

export interface SenderBudget {
  /** Call it for each message that comes. False when it is one too many. */
  heard(siteId: string): Promise<boolean>;
  /** False when the budget is spent. */
  count(siteId: string, fault: Fault): Promise<boolean>;
  /** A site that was kept out begins anew. */
  forget(siteId: string): Promise<void>;
}

/** Completes "The coordinator stopped listening to this site: …". */
export const wordsOf = (cause: DismissalCause): string => sentences[cause];

export function createSenderBudget(limits: Partial<BudgetLimits> = {}): SenderBudget {
  const { points, windowSeconds, messagesPerMinute } = { ...defaultBudget, ...limits };
  const faults = new RateLimiterMemory({ points, duration: windowSeconds });
  const messages = new RateLimiterMemory({ points: messagesPerMinute, duration: 60 });
  return {
    heard: (siteId) => isWithin(messages.consume(siteId)),
    count: (siteId, fault) => isWithin(faults.consume(siteId, costs[fault])),
    async forget(siteId) {
      await Promise.all([faults.delete(siteId), messages.delete(siteId)]);
    },
  };
}

/** The limiter rejects with its state when a key has no points left. */
async function isWithin(consumed: Promise<RateLimiterRes>): Promise<boolean> {
  try {
    await consumed;
    return true;
  } catch (thrown) {
    if (thrown instanceof RateLimiterRes) return false;
    throw thrown;
  }
}
