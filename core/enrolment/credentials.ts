/** What a site keeps of its enrolment: keys, certificates and where its coordinator is. */
import { createPublicKey, X509Certificate } from 'node:crypto';
import path from 'node:path';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import type { Signer } from '../transport/signature.ts';
import { isTopicName } from '../transport/topics.ts';
import {
  loadKey,
  loadOrCreateKey,
  loadSigner,
  privateKeyPem,
  readSecretFile,
  writeSecretFile,
} from './key-files.ts';

const membershipSchema = z.strictObject({
  v: z.literal(1),
  siteId: z.string().refine(isTopicName),
  siteName: z.string(),
  federation: z.string().refine(isTopicName),
  coordinatorName: z.string(),
  /** Ed25519, base64url of the raw 32 bytes. */
  coordinatorPublicKey: z.base64url(),
  brokerUrl: z.string(),
  /** PEM. */
  certificate: z.string(),
  authority: z.string(),
  joinedAt: z.iso.datetime(),
});
export type Membership = z.infer<typeof membershipSchema>;

export interface SiteCredentials extends Membership {
  /** For `connectMqtt`; PEM. */
  tls: { ca: string; cert: string; key: string };
  /** Signs as this site. */
  signer: Signer;
}

const membershipFile = (keysDir: string) => path.join(keysDir, 'membership.json');
const tlsKeyFile = (keysDir: string) => path.join(keysDir, 'tls-key.pem');
/** The site's TLS key; made before the request, so that a request that is repeated asks for the same certificate. */
export const loadOrCreateTlsKey = (keysDir: string) => loadOrCreateKey(tlsKeyFile(keysDir), 'p256');

/** Null when this installation has not joined. @throws AppError KEYS_MISSING | DATA_FOLDER_UNUSABLE */
export async function loadCredentials(keysDir: string): Promise<SiteCredentials | null> {
  const text = await readSecretFile(membershipFile(keysDir));
  if (text === null) return null;
  let membership: Membership;
  try {
    membership = membershipSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new AppError('DATA_FOLDER_UNUSABLE', 'The membership record in the data folder is damaged.', {
      action: 'Restore the data folder from a backup, or join again with a new one.',
      cause: error,
    });
  }
  const key = privateKeyPem(await loadKey(tlsKeyFile(keysDir)));
  return {
    ...membership,
    tls: { ca: membership.authority, cert: membership.certificate, key },
    signer: await loadSigner(keysDir, membership.siteId),
  };
}

/** Written last and at once: whoever finds it has all the rest. */
export async function saveMembership(keysDir: string, membership: Membership): Promise<void> {
  await writeSecretFile(membershipFile(keysDir), `${JSON.stringify(membership, null, 2)}\n`);
}

/**
 * Whether a certificate is the one that was asked for: from the pinned authority, for this site and this key.
 * @param tlsKey PEM of the site's private key
 */
export function isCertificateFor(options: {
  certificate: string;
  authority: string;
  siteId: string;
  tlsKey: string;
}): boolean {
  try {
    const certificate = new X509Certificate(options.certificate);
    const authority = new X509Certificate(options.authority);
    const ownKey = createPublicKey(options.tlsKey);
    return (
      certificate.subject === `CN=${options.siteId}` &&
      certificate.checkIssued(authority) &&
      certificate.verify(authority.publicKey) &&
      certificate.publicKey.equals(ownKey)
    );
  } catch {
    return false;
  }
}
