/** The store as the enrolment desk sees it. */
import type { EnrolmentRegistry } from '../enrolment/desk.ts';
import { createInvitation, createToken, hashToken, nameToId } from '../enrolment/invitation.ts';
import type { Store } from '../store/store.ts';

export function createRegistry(store: Store): EnrolmentRegistry {
  return {
    findInvitation: (tokenSha256) =>
      store.invitations.list().find((row) => row.tokenSha256 === tokenSha256) ?? null,
    findSite: (siteId) => store.sites.get(siteId),
    enrol: (site, invitationId) =>
      store.transaction(() => {
        if (!store.invitations.markUsed(invitationId, site.id)) return false;
        store.sites.upsert(site);
        store.audit.append({
          actor: 'coordinator',
          action: 'site-joined',
          details: { siteId: site.id, name: site.name },
        });
        return true;
      }),
  };
}

export interface InvitationTerms {
  federation: string;
  coordinatorName: string;
  brokerUrl: string;
  caFingerprint: string;
  coordinatorPublicKey: string;
}

/** Records an invitation and gives its text, the only place where the one-time token stands. */
export function issueInvitation(
  store: Store,
  terms: InvitationTerms,
  siteName: string,
  validHours: number,
): { invitation: string; expiresAt: string } {
  const token = createToken();
  const expiresAt = new Date(Date.now() + validHours * 3_600_000).toISOString();
  store.invitations.insert({ id: nameToId(siteName), siteName, tokenSha256: hashToken(token), expiresAt });
  return { invitation: createInvitation({ ...terms, token, expiresAt }), expiresAt };
}
