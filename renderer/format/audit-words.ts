/** Entries of the audit trail in words. */
import { policyRuleList } from '../../core/config/site-policy.ts';
import { formatBytes, formatHash, formatRound } from './format.ts';
import { ruleValue } from './policy-words.ts';

/** Actions whose identifier says too little; the others read as they are. */
const actions: Readonly<Record<string, string>> = {
  'site-policy-set': 'Policy of this site set',
  'run-covered': 'Run covered by an earlier approval',
  'approval-ended': 'Approval within limits taken back',
  'approval-void': 'Old approval void: it named no contract',
  'manifest-refused': 'Request of the coordinator refused',
  'approval-asked': 'A run asked for approval',
  'sign-in-blocked': 'Too many wrong passwords',
  'user-password-reset': 'One-time password handed out',
  'user-password-changed': 'Password changed',
  'run-stop-asked': 'Run stopped by hand',
  'run-pause-asked': 'Run paused by hand',
  'run-resume-asked': 'Run resumed by hand',
  'store-went-back': 'The data here is from an earlier state',
  'restore-confirmed': 'Restored data confirmed',
  'coordinator-went-back': 'The coordinator went back to an earlier state',
  'rounds-repeated': 'Rounds delivered again to the coordinator',
  'state-exchanged': 'Repeated round begins with another shared model',
  'run-paused': 'Run paused',
  'run-continued': 'Run went on',
  'update-asked-again': 'Damaged update asked for again',
  'act-proposed': 'Proposed to a second person',
  'act-confirmed': 'Confirmed as the second person',
  'act-refused': 'Proposal refused',
  'act-withdrawn': 'Proposal taken back',
  'act-expired': 'Proposal ended: nobody confirmed it',
  'act-not-done': 'Confirmed, but it failed: it waits on',
};

/** `consent.granted` reads `Consent granted`. */
export function actionWords(action: string): string {
  const words = Object.hasOwn(actions, action) ? actions[action]! : separated(action);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** `{documentVersion: 'v2', round: 0}` reads `document version v2 · round 1`; hashes are cut short. */
export function detailWords(details: Readonly<Record<string, unknown>>): string {
  return Object.entries(details)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => detail(key, value))
    .filter((words) => words !== '')
    .join(' · ');
}

function detail(key: string, value: unknown): string {
  if (typeof value === 'number') {
    if (key === 'round') return `round ${formatRound(value)}`;
    if (key === 'coveredBy') return `covered by decision ${value}`;
    if (key.endsWith('Bytes')) return `${separated(key.slice(0, -5))} ${formatBytes(value)}`;
  }
  if (key === 'changes' && isObject(value)) return Object.entries(value).map(ruleWords).join(' · ');
  if (key === 'weakened' && Array.isArray(value)) return weakenedWords(value);
  if (key === 'channel') return value === 'socket' ? 'desktop app or command line' : 'browser';
  if (key === 'roles' && Array.isArray(value)) return `roles ${value.map(String).join(', ')}`;
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return `${separated(key)} ${/^[0-9a-f]{64}$/.test(text) ? formatHash(text) : text}`;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const ruleAt = (name: unknown) => policyRuleList.find(({ path }) => path === name);

/** A rule of a later version is named as it is. */
function ruleWords([name, value]: [string, unknown]): string {
  const rule = ruleAt(name);
  if (rule === undefined) return `${separated(name)} ${JSON.stringify(value)}`;
  return `${rule.label}: ${ruleValue(rule, value)}`;
}

const weakenedWords = (names: readonly unknown[]): string =>
  names.length === 0
    ? ''
    : `protects less than before in ${names.map((name) => ruleAt(name)?.label ?? String(name)).join(', ')}`;

/** Words of an identifier: `documentVersion`, `run.approved`, `set_aside`. */
function separated(name: string): string {
  return name
    .replaceAll(/[._-]+/g, ' ')
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1 $2')
    .toLowerCase();
}
