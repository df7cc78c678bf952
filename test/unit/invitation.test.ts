import { createPublicKey } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  createInvitation,
  createToken,
  hashToken,
  type Invitation,
  nameToId,
  parseInvitation,
  tokenKey,
} from '../../core/enrolment/invitation.ts';
import { openJoinRequest, sealJoinRequest } from '../../core/enrolment/join-messages.ts';
import { AppError } from '../../core/shared/errors.ts';
import { isTopicName } from '../../core/transport/topics.ts';
import { signerOf } from '../contract/test-brokers.ts';

const invitation: Invitation = {
  federation: 'seltene-gesichter-4k2p9x',
  coordinatorName: 'Universität Beispielstadt',
  brokerUrl: 'mqtts://coordinator.example.org:8883',
  caFingerprint: 'ab'.repeat(32),
  coordinatorPublicKey: signerOf('coordinator').publicKey,
  token: createToken(),
  expiresAt: '2026-12-01T00:00:00.000Z',
};

describe('an invitation', () => {
  test('is one line that comes out as it went in, also after a mail program broke it', () => {
    const text = createInvitation(invitation);
    expect(text).toMatch(/^\S{300,800}$/);
    expect(parseInvitation(text)).toEqual(invitation);
    const quoted = `> ${text.match(/.{1,70}/g)!.join('\r\n> ')}\n\n`;
    expect(parseInvitation(quoted)).toEqual(invitation);
  });

  test('that is cut, mistyped or something else is named invalid', () => {
    const text = createInvitation(invitation);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: text.length - 1 }),
        fc.constantFrom('', 'A', '-', '!'),
        (at, letter) => {
          const damaged = text.slice(0, at) + letter + text.slice(at + 1);
          if (damaged === text) return;
          expect(() => parseInvitation(damaged)).toThrow(AppError);
        },
      ),
    );
    for (const other of ['', 'hello', text.slice(0, 100), `${text}x`, `${text}.x`, 'x'.repeat(100_000)]) {
      expect(() => parseInvitation(other)).toThrow(expect.objectContaining({ code: 'INVITATION_INVALID' }));
    }
  });

  test('what the coordinator stores does not give the token away', () => {
    const stored = hashToken(invitation.token);
    expect(stored).toMatch(/^[0-9a-f]{64}$/);
    expect(createPublicKey(tokenKey(invitation.token)).asymmetricKeyType).toBe('ed25519');
    expect(hashToken(createToken())).not.toBe(stored);
  });
});

describe('a request to join', () => {
  const claims = { federation: 'f', id: 'enrol-1', siteName: 'Klinik', certificateRequest: 'pem' };
  const sealed = sealJoinRequest(claims, invitation.token, signerOf('joining'));

  test('opens for its federation and its topic only', () => {
    expect(openJoinRequest(sealed, 'f', 'enrol-1')).toMatchObject(claims);
    expect(() => openJoinRequest(sealed, 'g', 'enrol-1')).toThrow(/signature/);
    expect(() => openJoinRequest(sealed, 'f', 'enrol-2')).toThrow(/signature/);
  });

  test('is bound to the site key: nobody can put another in its place', () => {
    const fields = JSON.parse(Buffer.from(sealed).toString()) as Record<string, unknown>;
    for (const change of [
      { publicKey: signerOf('site-b').publicKey },
      { certificateRequest: 'other' },
      { siteName: 'x' },
    ]) {
      const changed = Buffer.from(JSON.stringify({ ...fields, ...change }));
      expect(() => openJoinRequest(changed, 'f', 'enrol-1')).toThrow(/signature/);
    }
    expect(() => openJoinRequest(Buffer.from('{}'), 'f', 'enrol-1')).toThrow(AppError);
  });
});

test('ids from names fit topics and are never those of enrolments', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.constantFrom('Enrol', 'enrol-x', 'Klinik Süd', '---', '北京')),
      (name) => {
        const id = nameToId(name);
        return isTopicName(id) && !id.startsWith('enrol-') && id !== 'coordinator';
      },
    ),
  );
  expect(nameToId('Klinik Süd')).toMatch(/^klinik-su-d-|^klinik-sud-/);
});
