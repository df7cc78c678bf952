/** What the run engine needs from the outside; the coordinator connects it to MQTT. */
import type { BlobReference, ManifestBody, ReceiptBody } from '../transport/messages.ts';

export interface RunPorts {
  /** Replaces the retained manifest. Failing is harmless: it is published again at the next connection. */
  publishManifest(manifest: ManifestBody): Promise<void>;
  sendReceipt(siteId: string, receipt: ReceiptBody): Promise<void>;
  /** Pulls a site's update into the blob store. */
  pull(siteId: string, reference: BlobReference, signal: AbortSignal): Promise<void>;
  /** Sites that are enrolled, not revoked and connected now. */
  onlineSites(): readonly string[];
  /** How long ago a site was last connected, in ms; 0 when it is online. */
  offlineForMs(siteId: string): number;
}
