/** What this installation is, as its store remembers it. */
import { z } from 'zod';
import type { Store } from '../store/store.ts';

const coordinatorIdentitySchema = z.object({
  mode: z.literal('coordinator'),
  /** Id of the federation in topics and certificates. */
  federation: z.string(),
  federationName: z.string(),
  /** Names and addresses under which sites reach the broker. */
  hosts: z.array(z.string()).min(1),
  port: z.number().int(),
});

/** A copy, for the screens, of what the keys folder holds of the enrolment. */
const siteIdentitySchema = z.object({
  mode: z.literal('site'),
  federation: z.string(),
  federationName: z.string(),
  siteId: z.string(),
  siteName: z.string(),
  brokerUrl: z.string(),
  joinedAt: z.string(),
});

const identitySchema = z.discriminatedUnion('mode', [coordinatorIdentitySchema, siteIdentitySchema]);
export type CoordinatorIdentity = z.infer<typeof coordinatorIdentitySchema>;
export type SiteIdentity = z.infer<typeof siteIdentitySchema>;
export type Identity = z.infer<typeof identitySchema>;

const key = 'agent.identity';

export function readIdentity(store: Store): Identity | null {
  return store.settings.get(key, identitySchema);
}

export function writeIdentity(store: Store, identity: Identity): void {
  store.settings.set(key, identity);
}

/** A federation id for topics and certificates: readable, and unlike that of another federation of the same name. */
export function federationIdOf(name: string, suffix: string): string {
  const readable = name
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 40);
  return `${readable || 'federation'}-${suffix}`;
}
