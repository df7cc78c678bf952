/** In place of core/transport/broker.ts: writes what Mosquitto needs into a folder, where whoever runs it finds it. */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Broker, BrokerOptions } from '../../../core/transport/broker.ts';
import { mosquittoConfiguration } from '../../contract/mosquitto.ts';
import { isListening, parseBrokerPlace } from '../mosquitto.ts';

const waitMs = 30_000;

export async function startBroker({ federation, tls }: BrokerOptions): Promise<Broker> {
  const { folder, port, enrolmentPort } = parseBrokerPlace(process.env['ANNEAL_CHAOS_BROKER']);
  const file = (name: string) => join(folder, name);
  if (!existsSync(file('mosquitto.conf'))) {
    const { configuration, memberAcl, enrolmentAcl } = mosquittoConfiguration({
      ...{ federation, host: '127.0.0.1', port, enrolmentPort },
      files: {
        ...{ authority: file('authority.pem'), certificate: file('server.pem'), key: file('server-key.pem') },
        ...{ memberAcl: file('member.acl'), enrolmentAcl: file('enrolment.acl') },
      },
    });
    writeFileSync(file('authority.pem'), tls.ca);
    writeFileSync(file('server.pem'), `${tls.cert.trim()}\n${tls.ca}`);
    writeFileSync(file('server-key.pem'), tls.key, { mode: 0o600 });
    writeFileSync(file('member.acl'), memberAcl);
    writeFileSync(file('enrolment.acl'), enrolmentAcl);
    const small = configuration.replace(/max_queued_messages \d+/, 'max_queued_messages 10');
    // Started as root, Mosquitto would change to a user who may not read this folder.
    writeFileSync(file('mosquitto.part'), `user ${userInfo().username}\n${small}`);
    renameSync(file('mosquitto.part'), file('mosquitto.conf'));
  }
  for (const until = Date.now() + waitMs; Date.now() < until && !(await isListening(port)); ) await sleep(50);
  return { port, connected: [], disconnect() {}, close: async () => {} };
}
