/** Configuration for Mosquitto 2 as the broker of a federation, for the administrator who runs it. */
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';

export interface MosquittoOptions {
  federation: string;
  /** Address to listen on; leave out for all. */
  host?: string;
  /** For members, with certificates. */
  port: number;
  /** For enrolment, without. Mosquitto can't do both on one port. */
  enrolmentPort: number;
  /** Paths on the broker's machine. */
  files: { authority: string; certificate: string; key: string; memberAcl: string; enrolmentAcl: string };
  /** Largest packet. Default 1 MiB. */
  packetBytes?: number;
}

export interface MosquittoFiles {
  /** mosquitto.conf */
  configuration: string;
  /** Access control lists of the two listeners. */
  memberAcl: string;
  enrolmentAcl: string;
}

/**
 * `certificate` must hold the broker's certificate followed by the authority's, so that invited sites find it.
 * A revoked site stays connected until Mosquitto is told: put its certificate on a `crlfile`.
 */
export function mosquittoConfiguration(options: MosquittoOptions): MosquittoFiles {
  const { files } = options;
  const host = options.host === undefined ? '' : ` ${options.host}`;
  const tls = `cafile ${files.authority}
certfile ${files.certificate}
keyfile ${files.key}
tls_version tlsv1.2`;
  // `max_packet_size`, not `message_size_limit`: the latter acknowledges what it then drops.
  const configuration = `# Mosquitto for the Anneal federation "${options.federation}".
per_listener_settings true
persistence false
max_packet_size ${options.packetBytes ?? 1024 * 1024}
max_queued_messages 1000
max_queued_bytes 268435456
max_inflight_messages 20
max_keepalive 600
set_tcp_nodelay true

# Members: who they are is in their certificates.
listener ${options.port}${host}
${tls}
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file ${files.memberAcl}

# Enrolment: no certificate yet, and nothing but enrolling. Mosquitto can't keep these connections from taking
# a member's client id, which would throw that member off: open this port only while sites join.
listener ${options.enrolmentPort}${host}
${tls}
require_certificate false
allow_anonymous true
max_connections 64
acl_file ${files.enrolmentAcl}
`;
  return {
    configuration,
    memberAcl: memberAcl(options.federation),
    enrolmentAcl: enrolmentAcl(options.federation),
  };
}

/** `%u` is the certificate's common name: a site's id. */
function memberAcl(federation: string): string {
  const topics = createTopics(federation);
  const own = (topic: string) => topic.replace('/site/placeholder/', '/site/%u/');
  const site = 'placeholder';
  return `# The coordinator
user ${coordinatorId}
topic readwrite ${topics.manifest}
topic read ${topics.everySite.presence}
topic read ${topics.everySite.messages}
topic read ${topics.everySite.chunks}
topic read ${topics.everySite.chunkRequests}
topic read ${topics.everySite.enrolments}
topic write ${topics.everySite.messages.replace(/up$/, 'down')}
topic write ${topics.everySite.chunks.replace(/up$/, 'down')}
topic write ${topics.everySite.chunkRequests.replace(/up$/, 'down')}
topic write ${topics.everySite.enrolments.replace(/request$/, 'reply')}

# Each site, on its own topics
pattern write ${own(topics.message(site, 'up'))}
pattern write ${own(topics.presence(site))}
pattern write ${own(topics.chunks(site, 'up'))}
pattern write ${own(topics.chunkRequests(site, 'up'))}
pattern read ${own(topics.message(site, 'down'))}
pattern read ${own(topics.chunks(site, 'down'))}
pattern read ${own(topics.chunkRequests(site, 'down'))}
pattern read ${topics.manifest}
`;
}

/** `%c` is the client id. */
function enrolmentAcl(federation: string): string {
  const topics = createTopics(federation);
  const own = (part: 'request' | 'reply') =>
    topics.enrolment('placeholder', part).replace('placeholder', '%c');
  return `pattern write ${own('request')}
pattern read ${own('reply')}
`;
}
