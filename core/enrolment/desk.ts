/** The coordinator's side of enrolment: checks invitations, certifies sites, answers. */
import { AppError } from '../shared/errors.ts';
import { type Logger, silentLogger } from '../shared/logger.ts';
import { createSerialQueue } from '../shared/serial.ts';
import { sealEnvelope } from '../transport/envelope.ts';
import type { Link } from '../transport/link.ts';
import type { Signer } from '../transport/signature.ts';
import { createTopics } from '../transport/topics.ts';
import { type Authority, readRequest, serialFor } from './authority.ts';
import { hashTokenPublicKey, nameToId } from './invitation.ts';
import {
  type EnrolledBody,
  type JoinRequest,
  openJoinRequest,
  type RefusalCode,
  tokenOf,
} from './join-messages.ts';

/** What the desk reads and writes; core/store has it all. */
export interface EnrolmentRegistry {
  findInvitation(
    tokenSha256: string,
  ): { id: string; siteName: string; expiresAt: string; usedAt: string | null; siteId: string | null } | null;
  findSite(siteId: string): { publicKey: string; certificateSerial: string; revokedAt: string | null } | null;
  /**
   * Adds the site and marks the invitation used, both or nothing (one transaction). False when somebody else
   * used the invitation meanwhile.
   */
  enrol(
    site: { id: string; name: string; publicKey: string; certificateSerial: string },
    invitationId: string,
  ): boolean;
}

export interface EnrolmentDeskOptions {
  /** A link of the coordinator. */
  link: Link;
  federation: string;
  coordinatorName: string;
  /** The coordinator's. */
  signer: Signer;
  authority: Authority;
  registry: EnrolmentRegistry;
  onEnrolled?(siteId: string): void;
  logger?: Logger;
  now?(): Date;
}

export interface EnrolmentDesk {
  close(): Promise<void>;
}

/** Requests without an invitation that are answered in a minute, at most: strangers can't keep the coordinator busy. */
const requestsPerMinute = 300;

type Decision = { type: 'enrolled'; body: EnrolledBody } | { type: 'refused'; body: { code: RefusalCode } };

export async function startEnrolmentDesk(options: EnrolmentDeskOptions): Promise<EnrolmentDesk> {
  const { link, federation, signer } = options;
  const logger = options.logger ?? silentLogger;
  const topics = createTopics(federation);
  const queue = createSerialQueue();
  let minute = 0;
  let inMinute = 0;

  function mayHandleOneMore(): boolean {
    const current = Math.floor(performance.now() / 60_000);
    if (current !== minute) {
      minute = current;
      inMinute = 0;
    }
    return ++inMinute <= requestsPerMinute;
  }

  async function handle(id: string, payload: Uint8Array): Promise<void> {
    const request = openJoinRequest(payload, federation, id);
    const decision = await decide(options, request).catch((error: unknown) => {
      logger.error({ error }, 'a request to join could not be handled');
      return refused('INTERNAL');
    });
    if (decision.type === 'refused')
      logger.warn({ code: decision.body.code }, 'a request to join was refused');
    const answer = sealEnvelope({ federation, recipient: id, ...decision }, signer);
    await link.publish(topics.enrolment(id, 'reply'), answer);
  }

  const unsubscribe = await link.subscribe(topics.everySite.enrolments, (message) => {
    const id = topics.enrolmentOf(message.topic);
    if (id === null) return;
    // Who was invited gets an answer however many strangers ask.
    const token = tokenOf(message.payload);
    const isInvited = token !== null && options.registry.findInvitation(hashTokenPublicKey(token)) !== null;
    if (!isInvited && !mayHandleOneMore()) {
      // Once a minute: a flood must not fill the log either.
      if (inMinute === requestsPerMinute + 1) logger.warn({}, 'too many requests to join; some were dropped');
      return;
    }
    return queue.run(() => handle(id, message.payload));
  });
  return {
    async close() {
      await unsubscribe();
      await queue.idle();
    },
  };
}

/** A repeated request of the same site gets the same answer, with the same certificate serial. */
async function decide(options: EnrolmentDeskOptions, request: JoinRequest): Promise<Decision> {
  const { registry } = options;
  const invitation = registry.findInvitation(hashTokenPublicKey(request.tokenPublicKey));
  if (invitation === null) return refused('INVITATION_INVALID');
  let publicKey: Uint8Array;
  try {
    publicKey = await readRequest(request.certificateRequest);
  } catch (error) {
    if (error instanceof AppError) return refused('INVITATION_INVALID');
    throw error;
  }
  const serial = serialFor(invitation.id, publicKey);

  if (invitation.usedAt !== null) {
    const site = invitation.siteId === null ? null : registry.findSite(invitation.siteId);
    const isRepeat =
      site !== null &&
      site.revokedAt === null &&
      site.publicKey === request.publicKey &&
      site.certificateSerial === serial;
    return isRepeat
      ? certify(options, request, invitation, invitation.siteId!, serial)
      : refused('INVITATION_USED');
  }
  if ((options.now?.() ?? new Date()) >= new Date(invitation.expiresAt)) return refused('INVITATION_EXPIRED');

  const siteId = nameToId(invitation.siteName || request.siteName);
  // Certified first: an invitation that is marked used has its certificate.
  const decision = await certify(options, request, invitation, siteId, serial);
  const site = {
    id: siteId,
    name: decision.body.siteName,
    publicKey: request.publicKey,
    certificateSerial: serial,
  };
  if (!registry.enrol(site, invitation.id)) return refused('INVITATION_USED');
  options.onEnrolled?.(siteId);
  return decision;
}

async function certify(
  options: EnrolmentDeskOptions,
  request: JoinRequest,
  invitation: { siteName: string },
  siteId: string,
  serial: string,
): Promise<Extract<Decision, { type: 'enrolled' }>> {
  return {
    type: 'enrolled',
    body: {
      siteId,
      // The coordinator's own name for the site, if it gave one with the invitation.
      siteName: invitation.siteName || request.siteName,
      certificate: await options.authority.issueSite(siteId, request.certificateRequest, serial),
      authority: options.authority.certificate,
      coordinatorName: options.coordinatorName,
    },
  };
}

function refused(code: RefusalCode): Decision {
  return { type: 'refused', body: { code } };
}
