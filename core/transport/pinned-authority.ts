/**
 * Finds the certificate authority that an invitation names by fingerprint. A first TLS connection sends
 * nothing and believes nothing; it only collects the certificates that the broker shows. The one with the
 * right SHA-256 becomes the only trusted authority of the connection that follows, which verifies as usual.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { connect as connectTls, type DetailedPeerCertificate } from 'node:tls';
import { AppError } from '../shared/errors.ts';
import { describeConnectionProblem } from './connection-problem.ts';

/** Lower-case hexadecimal SHA-256 of the DER form. */
export function certificateFingerprint(certificate: string | Uint8Array): string {
  return createHash('sha256').update(new X509Certificate(certificate).raw).digest('hex');
}

/**
 * @param address of the broker, `mqtts://host:port`
 * @param fingerprint SHA-256, lower-case hexadecimal
 * @returns the authority's certificate, PEM
 * @throws AppError BROKER_UNREACHABLE | BROKER_REFUSED when the broker does not show that authority
 */
export function fetchPinnedAuthority(
  address: URL,
  fingerprint: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const host = address.hostname.replace(/^\[|\]$/g, '');
    const socket = connectTls({ host, port: Number(address.port || 8883), rejectUnauthorized: false });
    const abort = () => finish(new AppError('CANCELLED', 'The connection was given up.'));
    const finish = (result: string | AppError) => {
      signal.removeEventListener('abort', abort);
      socket.destroy();
      if (typeof result === 'string') resolve(result);
      else reject(result);
    };
    signal.addEventListener('abort', abort, { once: true });
    socket.setTimeout(timeoutMs, () => {
      finish(new AppError('BROKER_UNREACHABLE', `The broker at ${address.host} does not answer.`));
    });
    socket.on('error', (error) => finish(describeConnectionProblem(error, address)));
    socket.once('secureConnect', () => {
      const found = chainOf(socket.getPeerCertificate(true)).find(
        (raw) => createHash('sha256').update(raw).digest('hex') === fingerprint,
      );
      finish(
        found === undefined
          ? new AppError(
              'BROKER_REFUSED',
              'The broker does not belong to the coordinator that invited this site.',
              { action: 'Check the network, then ask the coordinator for a new invitation.' },
            )
          : new X509Certificate(found).toString(),
      );
    });
  });
}

function chainOf(certificate: DetailedPeerCertificate): Buffer[] {
  const chain: Buffer[] = [];
  let current: DetailedPeerCertificate | undefined = certificate;
  // The root names itself as its issuer.
  while (current?.raw !== undefined && !chain.some((raw) => raw.equals(current!.raw))) {
    chain.push(current.raw);
    current = current.issuerCertificate;
  }
  return chain;
}
