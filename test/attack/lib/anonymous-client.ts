/**
 * Somebody without a certificate who can reach the broker's port and has read an old invitation: the names of federation
 * and sites, the authority's certificate, the coordinator's public key. None of that is a secret.
 */
import { randomUUID } from 'node:crypto';
import { connect as connectTcp } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { generate } from 'mqtt-packet';
import type { AgentClient } from '../../../core/api/client.ts';
import { createToken, type Invitation, parseInvitation } from '../../../core/enrolment/invitation.ts';
import { sealJoinRequest } from '../../../core/enrolment/join-messages.ts';
import { connectMqtt, type MqttLink } from '../../../core/transport/mqtt-link.ts';
import { fetchPinnedAuthority } from '../../../core/transport/pinned-authority.ts';
import type { Signer } from '../../../core/transport/signature.ts';
import { createTopics, enrolmentClientPrefix } from '../../../core/transport/topics.ts';

export interface Surroundings {
  invitation: Invitation;
  /** PEM. */
  authority: string;
}

/** What an invitation says, the one-time token left out of account. */
export async function lookAround(coordinator: AgentClient): Promise<Surroundings> {
  const { invitation: text } = await coordinator.coordinator.invite.mutate({ siteName: 'Somebody' });
  const invitation = parseInvitation(text);
  const address = new URL(invitation.brokerUrl);
  const signal = AbortSignal.timeout(10_000);
  return {
    invitation,
    authority: await fetchPinnedAuthority(address, invitation.caFingerprint, 10_000, signal),
  };
}

export const newEnrolmentId = (): string => `${enrolmentClientPrefix}${randomUUID()}`;

/** @throws AppError when the broker does not let it in */
export function connectAs(
  { invitation, authority }: Surroundings,
  clientId: string,
  tls: { cert?: string; key?: string } = {},
): Promise<MqttLink> {
  return connectMqtt({
    ...{ url: invitation.brokerUrl, clientId, tls: { ca: authority, ...tls } },
    ...{ waitForFirstConnection: 2_000, backoffMs: { first: 100, max: 500 } },
  });
}

/** A well-formed request to join by a token that nobody issued. */
export function inventedRequest(
  { invitation }: Surroundings,
  id: string,
  signer: Signer,
  certificateRequest: string,
) {
  const claims = { federation: invitation.federation, id, siteName: 'Somebody', certificateRequest };
  return sealJoinRequest(claims, createToken(), signer);
}

export const requestTopic = ({ invitation }: Surroundings, id: string): string =>
  createTopics(invitation.federation).enrolment(id, 'request');

export interface RawConnection extends Disposable {
  readonly socket: TLSSocket;
  /** Whether the broker has closed it. */
  readonly closed: boolean;
  readonly bytesAccepted: number;
  /** Bytes as they are; nothing waits for an answer. */
  write(bytes: Uint8Array): Promise<void>;
}

/** What somebody without a certificate may say first. */
export function connectPacket(clientId: string): Uint8Array {
  const protocol = { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4 } as const;
  return generate({ ...protocol, clean: true, keepalive: 60, clientId });
}

/**
 * TLS and nothing above it.
 * @param from address of this machine that it comes from
 */
export function openRaw({ invitation, authority }: Surroundings, from = '127.0.0.1'): Promise<RawConnection> {
  const { hostname: host, port } = new URL(invitation.brokerUrl);
  return new Promise((resolve, reject) => {
    const tcp = connectTcp({ host, port: Number(port), localAddress: from });
    tcp.once('error', reject);
    const socket = connect({ socket: tcp, host, ca: authority });
    let closed = false;
    socket.once('close', () => {
      closed = true;
    });
    socket.once('error', reject);
    socket.resume();
    socket.once('secureConnect', () => {
      socket.off('error', reject).on('error', () => {});
      resolve({
        socket,
        get closed() {
          return closed;
        },
        get bytesAccepted() {
          return socket.bytesWritten;
        },
        write: (bytes) => new Promise((done) => void socket.write(bytes, () => done())),
        [Symbol.dispose]: () => void socket.destroy(),
      });
    });
  });
}
