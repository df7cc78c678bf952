/** The site's side of enrolment. */
import { randomUUID } from 'node:crypto';
import { AppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { pick } from '../shared/pick.ts';
import { openEnvelope } from '../transport/envelope.ts';
import { connectMqtt } from '../transport/mqtt-link.ts';
import { certificateFingerprint } from '../transport/pinned-authority.ts';
import { coordinatorId, createTopics, enrolmentClientPrefix } from '../transport/topics.ts';
import { createRequest } from './authority.ts';
import {
  isCertificateFor,
  loadCredentials,
  loadOrCreateTlsKey,
  type SiteCredentials,
  saveMembership,
} from './credentials.ts';
import { type Invitation, parseInvitation } from './invitation.ts';
import { type EnrolledBody, joinAnswers, type RefusalCode, sealJoinRequest } from './join-messages.ts';
import { loadOrCreateSigner, privateKeyPem } from './key-files.ts';

export interface EnrolOptions {
  /** The text that the coordinator gave. */
  invitation: string;
  /** Used unless the coordinator gave the site a name with the invitation. */
  siteName: string;
  /** Keys and certificates are kept here, readable by their owner only. */
  keysDir: string;
  /** Default 60 s. */
  timeoutMs?: number;
  logger?: Logger;
}

/** The request is repeated until an answer comes; the coordinator answers each repetition alike. */
const repeatMs = 4_000;
/** A person waits: a broker that is not there is reported soon, and joining can be tried again at any time. */
const connectWithinMs = 20_000;

const refusals: Record<RefusalCode, string> = {
  INVITATION_INVALID: 'The coordinator does not know this invitation.',
  INVITATION_USED: 'This invitation has already been used.',
  INVITATION_EXPIRED: 'This invitation has expired.',
  INTERNAL: 'The coordinator could not handle the request to join.',
};

/**
 * Joins a federation: verifies the broker by the fingerprint in the invitation, proves the one-time token,
 * gets a certificate. If it breaks off anywhere, the same invitation can be used again from the same folder.
 * @throws AppError INVITATION_INVALID | INVITATION_USED | INVITATION_EXPIRED | ALREADY_JOINED |
 * CONFIG_INVALID | BROKER_UNREACHABLE | BROKER_REFUSED | DISK_FULL | DATA_FOLDER_UNUSABLE
 */
export async function enrol(options: EnrolOptions): Promise<SiteCredentials> {
  const invitation = parseInvitation(options.invitation);
  if (new Date() >= new Date(invitation.expiresAt)) {
    throw new AppError('INVITATION_EXPIRED', refusals.INVITATION_EXPIRED);
  }
  const { keysDir } = options;
  const siteName = options.siteName.trim();
  if (siteName === '' || siteName.length > 200) {
    throw new AppError('CONFIG_INVALID', 'A site needs a name of at most 200 letters.');
  }
  if ((await loadCredentials(keysDir)) !== null) {
    throw new AppError('ALREADY_JOINED', 'This installation has already joined a federation.');
  }
  const tlsKey = await loadOrCreateTlsKey(keysDir);
  const id = `${enrolmentClientPrefix}${randomUUID()}`;
  const request = sealJoinRequest(
    {
      federation: invitation.federation,
      id,
      siteName,
      certificateRequest: await createRequest(tlsKey),
    },
    invitation.token,
    await loadOrCreateSigner(keysDir, 'joining'),
  );
  const answer = await ask(options, invitation, id, request);
  const isRight =
    certificateFingerprint(answer.authority) === invitation.caFingerprint &&
    isCertificateFor({ ...answer, tlsKey: privateKeyPem(tlsKey) });
  if (!isRight) {
    throw new AppError(
      'BROKER_REFUSED',
      'The coordinator answered with a certificate that does not belong to this site.',
      {
        action: 'Ask the coordinator for a new invitation.',
      },
    );
  }
  await saveMembership(keysDir, {
    v: 1,
    ...pick(answer, 'siteId', 'siteName', 'coordinatorName', 'certificate', 'authority'),
    ...pick(invitation, 'federation', 'coordinatorPublicKey', 'brokerUrl'),
    joinedAt: new Date().toISOString(),
  });
  const credentials = await loadCredentials(keysDir);
  if (credentials === null) throw new AppError('DATA_FOLDER_UNUSABLE', "The membership can't be read back.");
  return credentials;
}

/** Unlike a site that has joined, joining does not keep trying. */
function unreachable(message: string): AppError {
  return new AppError('BROKER_UNREACHABLE', message, {
    action:
      'Check the network and make sure that the coordinator is running, then join again with the same invitation.',
  });
}

/** Asks until the coordinator answers. */
async function ask(
  options: EnrolOptions,
  invitation: Invitation,
  id: string,
  request: Uint8Array,
): Promise<EnrolledBody> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const topics = createTopics(invitation.federation);
  const deadlineMs = performance.now() + timeoutMs;
  const link = await connectMqtt({
    url: invitation.enrolmentUrl ?? invitation.brokerUrl,
    clientId: id,
    tls: {},
    caFingerprint: invitation.caFingerprint,
    waitForFirstConnection: Math.min(timeoutMs, connectWithinMs),
    ...(options.logger === undefined ? {} : { logger: options.logger }),
  }).catch((thrown: unknown) => {
    throw thrown instanceof AppError && thrown.code === 'BROKER_UNREACHABLE'
      ? unreachable(thrown.message)
      : thrown;
  });
  const outcome = Promise.withResolvers<EnrolledBody>();
  outcome.promise.catch(() => {});
  let repeat: NodeJS.Timeout | undefined;
  let timeout: NodeJS.Timeout | undefined;
  try {
    await link.subscribe(topics.enrolment(id, 'reply'), ({ payload }) => {
      const answer = openEnvelope(payload, {
        federation: invitation.federation,
        recipient: id,
        sender: coordinatorId,
        keyOf: () => invitation.coordinatorPublicKey,
        bodies: joinAnswers,
      });
      if (answer.type === 'enrolled') outcome.resolve(answer.body);
      else outcome.reject(new AppError(answer.body.code, refusals[answer.body.code]));
    });
    const send = () => link.publish(topics.enrolment(id, 'request'), request).catch(() => {});
    void send();
    repeat = setInterval(send, repeatMs);
    timeout = setTimeout(
      () => outcome.reject(unreachable('The coordinator does not answer the request to join.')),
      Math.max(1, deadlineMs - performance.now()),
    );
    return await outcome.promise;
  } finally {
    clearInterval(repeat);
    clearTimeout(timeout);
    await link.close();
  }
}
