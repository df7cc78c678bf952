/** What a site's state machine needs from the outside; core/site/connection.ts connects it to MQTT. */
import type {
  AnnounceBody,
  BlobReference,
  DeclinedBody,
  EvaluationBody,
  ProgressBody,
} from '../transport/messages.ts';

export type SiteMessage =
  | { type: 'announce'; body: AnnounceBody }
  | { type: 'evaluation'; body: EvaluationBody }
  | { type: 'declined'; body: DeclinedBody };

export interface SitePorts {
  /** Writes the message to the outbox; call it inside the transaction of the state it speaks of. Sent until acknowledged. */
  enqueue(message: SiteMessage): void;
  /** Takes an announcement back that may not have arrived yet. */
  retractAnnouncement(runId: string, round: number): void;
  /** Sends what is in the outbox now. */
  flush(): void;
  /** Progress is a hint: sent once, lost when offline. */
  sendProgress(body: ProgressBody): void;
  /** Pulls a blob from the coordinator into the blob store; resumes what an earlier try left. */
  fetch(reference: BlobReference, signal: AbortSignal): Promise<void>;
}
