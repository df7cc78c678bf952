/** Why a connection to a broker failed, in one sentence. */
import { AppError } from '../shared/errors.ts';

/** CONNACK return codes, MQTT 3.1.1 section 3.2.2.3. */
const refusals: Record<number, string> = {
  1: 'The broker does not speak MQTT 3.1.1.',
  2: 'The broker refused the name of this installation.',
  3: 'The broker is not ready yet.',
  4: 'The broker refused the credentials of this installation.',
  5: 'The broker does not let this installation in; it may have been revoked.',
};

const certificateProblem =
  /CERT|INVALID_PURPOSE|INVALID_CA|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|SELF_SIGNED|ALTNAME|ERR_SSL_TLSV1_ALERT|ERR_SSL_SSLV3_ALERT|ERR_SSL_TLSV13_ALERT/;

/** @returns AppError BROKER_UNREACHABLE (try again) or BROKER_REFUSED (trying again will hardly help) */
export function describeConnectionProblem(thrown: unknown, address: URL): AppError {
  if (thrown instanceof AppError) return thrown;
  const code = (thrown as { code?: unknown } | null)?.code;
  if (typeof code === 'number' && code in refusals) {
    return new AppError(code === 3 ? 'BROKER_UNREACHABLE' : 'BROKER_REFUSED', refusals[code]!, {
      cause: thrown,
    });
  }
  if (typeof code === 'string' && certificateProblem.test(code)) {
    return new AppError(
      'BROKER_REFUSED',
      `The certificates of the broker at ${address.host} and of this site do not match.`,
      {
        action: 'Check the address and the clock of this computer; if both are right, ask the coordinator.',
        cause: thrown,
      },
    );
  }
  return new AppError('BROKER_UNREACHABLE', `The broker at ${address.host} does not answer.`, {
    cause: thrown,
  });
}
