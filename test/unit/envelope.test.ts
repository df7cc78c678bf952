import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { AppError } from '../../core/shared/errors.ts';
import { canonicalJson } from '../../core/shared/hash.ts';
import { maxEnvelopeBytes, openEnvelope, sealEnvelope } from '../../core/transport/envelope.ts';
import { createReplayGuard, isFresh } from '../../core/transport/replay-guard.ts';
import { signerOf } from '../contract/test-brokers.ts';

const federation = 'test-federation';
const bodies = { note: z.strictObject({ text: z.string() }) };
const message = { federation, recipient: 'coordinator', type: 'note', body: { text: 'geheim' } };
const read = {
  federation,
  recipient: 'coordinator',
  sender: 'site-a',
  keyOf: (id: string) => (id === 'site-x' ? null : signerOf(id).publicKey),
  bodies,
};

function refusal(bytes: Uint8Array, options: Partial<typeof read> = {}): string {
  try {
    openEnvelope(bytes, { ...read, ...options });
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).code).toBe('MESSAGE_INVALID');
    return (error as AppError).message;
  }
  return 'accepted';
}

describe('an envelope', () => {
  test('comes out as it went in', () => {
    const at = new Date('2026-11-22T10:00:00.000Z');
    const opened = openEnvelope(sealEnvelope({ ...message, at }, signerOf('site-a')), read);
    expect(opened).toMatchObject({ type: 'note', body: { text: 'geheim' }, sender: 'site-a', at });
  });

  test('is canonical JSON whose every field is signed', () => {
    const sealed = sealEnvelope(message, signerOf('site-a'));
    const fields = JSON.parse(Buffer.from(sealed).toString()) as Record<string, unknown>;
    expect(canonicalJson(fields)).toBe(Buffer.from(sealed).toString());
    const changes: Record<string, unknown> = {
      sender: 'site-b',
      recipient: null,
      type: 'note-b',
      id: '00000000-0000-4000-8000-000000000000',
      at: '2020-01-01T00:00:00.000Z',
      body: { text: 'x' },
      federation: 'other',
    };
    for (const [field, value] of Object.entries(changes)) {
      const changed = Buffer.from(canonicalJson({ ...fields, [field]: value }));
      const lenient = {
        sender: field === 'sender' ? 'site-b' : 'site-a',
        federation: field === 'federation' ? 'other' : federation,
        bodies: { note: bodies.note, 'note-b': bodies.note },
      };
      expect(refusal(changed, lenient), field).toMatch(/signature/);
    }
  });

  test('is refused from elsewhere, for elsewhere and of other kinds', () => {
    const sealed = sealEnvelope(message, signerOf('site-a'));
    expect(refusal(sealed, { federation: 'other' })).toMatch(/another federation/);
    expect(refusal(sealed, { sender: 'site-b' })).toMatch(/topic of another sender/);
    expect(refusal(sealed, { recipient: 'site-b' })).toMatch(/another recipient/);
    expect(refusal(sealEnvelope(message, signerOf('site-x')), { sender: 'site-x' })).toMatch(
      /unknown sender/,
    );
    expect(refusal(sealEnvelope({ ...message, type: 'other' }, signerOf('site-a')))).toMatch(
      /unexpected type/,
    );
    // An inherited name is no type either.
    expect(refusal(sealEnvelope({ ...message, type: 'constructor' }, signerOf('site-a')))).toMatch(
      /unexpected type/,
    );
    const forged = sealEnvelope(message, { ...signerOf('site-b'), id: 'site-a' });
    expect(refusal(forged)).toMatch(/signature/);
  });

  test('its refusal holds nothing of the content', () => {
    const wrongBody = sealEnvelope(
      { ...message, body: { text: 'geheim', more: 'geheim' } },
      signerOf('site-a'),
    );
    expect(refusal(wrongBody)).not.toMatch(/geheim/);
    for (const bytes of [
      Buffer.from('geheim'),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('null'),
      Buffer.alloc(0),
    ]) {
      expect(refusal(bytes)).not.toMatch(/geheim|accepted/);
    }
  });

  test('has a largest size, both ways', () => {
    const large = { ...message, body: { text: 'x'.repeat(maxEnvelopeBytes) } };
    expect(() => sealEnvelope(large, signerOf('site-a'))).toThrow(AppError);
    expect(refusal(Buffer.alloc(maxEnvelopeBytes + 1, 0x20))).toMatch(/larger/);
  });
});

describe('the replay guard', () => {
  const now = () => new Date();
  test('takes a message once', () => {
    const guard = createReplayGuard();
    const envelope = { sender: 'site-a', id: '1', at: now() };
    expect([guard.accept(envelope), guard.accept(envelope)]).toEqual([true, false]);
    expect(guard.accept({ ...envelope, sender: 'site-b' })).toBe(true);
  });

  test('remembers at least the newest, in bounded memory', () => {
    const guard = createReplayGuard({ maxEntries: 10 });
    for (let index = 0; index < 1000; index++) guard.accept({ sender: 'a', id: String(index), at: now() });
    for (let index = 990; index < 1000; index++) {
      expect(guard.accept({ sender: 'a', id: String(index), at: now() })).toBe(false);
    }
  });

  test('does not take what is too old or from a clock far ahead', () => {
    const hour = 3_600_000;
    expect(isFresh(new Date(Date.now() - 25 * hour))).toBe(false);
    expect(isFresh(new Date(Date.now() - 23 * hour))).toBe(true);
    expect(isFresh(new Date(Date.now() + 25 * hour))).toBe(false);
    expect(createReplayGuard({ maxAgeMs: 1000 }).accept({ sender: 'a', id: '1', at: new Date(0) })).toBe(
      false,
    );
  });
});
