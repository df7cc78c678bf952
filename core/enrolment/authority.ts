/** A federation's certificate authority: it vouches for the broker, the coordinator and each enrolled site. */
// Polyfills what @peculiar/x509 needs, so it comes first.
import 'reflect-metadata';
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import path from 'node:path';
import * as x509 from '@peculiar/x509';
import { AppError } from '../shared/errors.ts';
import { certificateFingerprint } from '../transport/pinned-authority.ts';
import { coordinatorId, isTopicName } from '../transport/topics.ts';
import { loadOrCreateKey, privateKeyPem, readSecretFile, writeSecretFile } from './key-files.ts';

export interface Authority {
  /** PEM. */
  readonly certificate: string;
  /** Lower-case hexadecimal SHA-256 of the certificate; this goes into invitations. */
  readonly fingerprint: string;
  /** For the broker: a new key each time. `hosts` are names and addresses; loopback is always added. PEM. */
  issueServer(hosts: readonly string[]): Promise<{ certificate: string; key: string }>;
  /** The coordinator's own client certificate, a new key each time. PEM. */
  issueCoordinator(): Promise<{ certificate: string; key: string }>;
  /**
   * @param siteId becomes the common name; what the request asks for is ignored
   * @param request PKCS #10, PEM
   * @param serial hexadecimal; see {@link serialFor}
   * @throws AppError INVITATION_INVALID when the request is not signed by its own P-256 key
   */
  issueSite(siteId: string, request: string, serial: string): Promise<string>;
}

const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const dayMs = 24 * 3_600_000;
const authorityDays = 20 * 365;
const serverDays = 397;
const siteDays = 5 * 365;
/** Certificates start to be valid this long ago: clocks of sites differ. */
const backdatedDays = 30;

const nameOf = (federation: string) => `Anneal federation ${federation}`;

/** Whether a certificate (PEM) is that of another federation's authority; false also for what cannot be read. */
export function isOfAnother(certificate: string, federation: string): boolean {
  try {
    return new X509Certificate(certificate).subject !== `CN=${nameOf(federation)}`;
  } catch {
    return false;
  }
}

/** Loads the authority of a federation, or makes it. @throws AppError DATA_FOLDER_UNUSABLE | DISK_FULL */
export async function createAuthority(keysDir: string, federation: string): Promise<Authority> {
  const key = await loadOrCreateKey(path.join(keysDir, 'authority-key.pem'), 'p256');
  const file = path.join(keysDir, 'authority.pem');
  let certificate = await readSecretFile(file);
  // One of another name is left from a setup that was broken off: a folder that is in use is refused before it comes here.
  if (certificate === null || isOfAnother(certificate, federation)) {
    certificate = await certifySelf(key, federation);
    await writeSecretFile(file, certificate);
  }
  const root = new x509.X509Certificate(certificate);
  const issue = (request: Omit<IssueRequest, 'issuer' | 'signingKey'>) =>
    certify({ ...request, issuer: root, signingKey: key });

  return {
    certificate,
    fingerprint: certificateFingerprint(certificate),
    async issueServer(hosts) {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
      const issued = await issue({
        commonName: 'broker',
        publicKey: spki(publicKey),
        days: serverDays,
        serial: positiveSerial(randomBytes(16)),
        usage: x509.ExtendedKeyUsage.serverAuth,
        hosts: [...new Set(['localhost', '127.0.0.1', '::1', ...hosts])],
      });
      return { certificate: issued, key: privateKeyPem(privateKey) };
    },
    async issueCoordinator() {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
      const issued = await issue({
        commonName: coordinatorId,
        publicKey: spki(publicKey),
        days: serverDays,
        serial: positiveSerial(randomBytes(16)),
        usage: x509.ExtendedKeyUsage.clientAuth,
      });
      return { certificate: issued, key: privateKeyPem(privateKey) };
    },
    async issueSite(siteId, request, serial) {
      if (!isTopicName(siteId) || siteId === coordinatorId) throw new TypeError('not a site id');
      return issue({
        commonName: siteId,
        publicKey: await readRequest(request),
        days: siteDays,
        serial,
        usage: x509.ExtendedKeyUsage.clientAuth,
      });
    },
  };
}

/** A serial number that is the same whenever the same key is certified for the same invitation. */
export function serialFor(invitationId: string, publicKey: Uint8Array): string {
  return positiveSerial(createHash('sha256').update(`${invitationId}\n`).update(publicKey).digest());
}

/** 16 bytes as a positive DER integer without leading zeros, so that every tool prints it the same. */
function positiveSerial(bytes: Uint8Array): string {
  const serial = Buffer.from(bytes.subarray(0, 16));
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  return serial.toString('hex');
}

/**
 * The public key (DER, SubjectPublicKeyInfo) of a certificate request that its own key signed.
 * @throws AppError INVITATION_INVALID
 */
export async function readRequest(request: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const parsed = new x509.Pkcs10CertificateRequest(request);
    const publicKey = new Uint8Array(parsed.publicKey.rawData);
    const key = createPublicKey({ key: Buffer.from(publicKey), type: 'spki', format: 'der' });
    const curve = key.asymmetricKeyDetails?.namedCurve;
    if (key.asymmetricKeyType === 'ec' && curve === 'prime256v1' && (await parsed.verify())) return publicKey;
  } catch {}
  throw new AppError('INVITATION_INVALID', 'The request to join contains no valid certificate request.');
}

/** PKCS #10, PEM. The subject does not matter: the authority sets its own. */
export async function createRequest(key: KeyObject): Promise<string> {
  const keys = {
    privateKey: webKey(key, 'sign'),
    publicKey: webKey(createPublicKey(key), 'verify'),
  };
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=site',
    keys,
    signingAlgorithm: ecdsa,
  });
  return request.toString('pem');
}

/** The same type under two names: Node's and the DOM's. */
function webKey(key: KeyObject, usage: 'sign' | 'verify'): CryptoKey {
  return key.toCryptoKey(ecdsa, true, [usage]) as CryptoKey;
}

function spki(key: KeyObject): Uint8Array<ArrayBuffer> {
  return new Uint8Array(key.export({ type: 'spki', format: 'der' }));
}

function validity(days: number): { notBefore: Date; notAfter: Date } {
  const now = Date.now();
  return { notBefore: new Date(now - backdatedDays * dayMs), notAfter: new Date(now + days * dayMs) };
}

async function certifySelf(key: KeyObject, federation: string): Promise<string> {
  const publicKey = spki(createPublicKey(key));
  const name = [{ CN: [nameOf(federation)] }];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: positiveSerial(randomBytes(16)),
    subject: name,
    issuer: name,
    ...validity(authorityDays),
    publicKey,
    signingAlgorithm: ecdsa,
    signingKey: webKey(key, 'sign'),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
    ],
  });
  return certificate.toString('pem');
}

interface IssueRequest {
  issuer: x509.X509Certificate;
  signingKey: KeyObject;
  commonName: string;
  publicKey: Uint8Array<ArrayBuffer>;
  days: number;
  serial: string;
  usage: x509.ExtendedKeyUsage;
  /** Names and addresses of a server. */
  hosts?: string[];
}

async function certify(request: IssueRequest): Promise<string> {
  const names = (request.hosts ?? []).map((host): x509.JsonGeneralName => {
    return { type: isIP(host) === 0 ? 'dns' : 'ip', value: host };
  });
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: request.serial,
    subject: [{ CN: [request.commonName] }],
    issuer: request.issuer.subjectName,
    ...validity(request.days),
    publicKey: request.publicKey,
    signingAlgorithm: ecdsa,
    signingKey: webKey(request.signingKey, 'sign'),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      // Only the broker's certificate is good for a server, so no site can pose as the broker.
      new x509.ExtendedKeyUsageExtension([request.usage], true),
      await x509.SubjectKeyIdentifierExtension.create(request.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(request.issuer.publicKey),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
    ],
  });
  return certificate.toString('pem');
}
