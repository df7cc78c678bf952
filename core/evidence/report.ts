/** What was checked of a bundle, and what that proves. */
export const checkNames = [
  'seal',
  'key',
  'trail',
  'consents',
  'cohorts',
  'policies',
  'contracts',
  'decisions',
  'contributions',
  'previous',
] as const;

export interface EvidenceCheck {
  name: (typeof checkNames)[number];
  /** Null: there was nothing to check it with. */
  ok: boolean | null;
  sentence: string;
}

export interface EvidenceReport {
  /** No check failed. */
  valid: boolean;
  bundle: {
    role: 'site' | 'coordinator';
    id: string;
    name: string;
    federation: string;
    createdAt: string;
    /** Ed25519, base64url. */
    publicKey: string;
    /** Number and hash of the newest audit row. */
    rows: number;
    head: string;
  };
  checks: EvidenceCheck[];
  proven: string[];
  notProven: string[];
}

type Name = EvidenceCheck['name'];
export const passed = (name: Name, sentence: string): EvidenceCheck => ({ name, ok: true, sentence });
export const failed = (name: Name, sentence: string): EvidenceCheck => ({ name, ok: false, sentence });
export const unchecked = (name: Name, sentence: string): EvidenceCheck => ({ name, ok: null, sentence });
