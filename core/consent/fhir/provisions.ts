/**
 * What the provisions of a Consent say about one purpose, as instants. A provision is an exception to the one that it
 * stands in: where both hold, the inner one decides, and among its inner ones a deny wins over a permit. Permits count
 * only as far as they are certain, denies as far as they are possible (HL7 FHIR R4, Consent.provision).
 */
import type { FhirCoding, FhirConcept, FhirConsent, FhirPeriod, Provision } from './consent-schema.ts';
import { momentOf } from './fhir-dates.ts';
import { always, between, difference, type Instants, intersection, never, union } from './intervals.ts';

/** Whether a code stands for the purpose in question. */
export type CodeMatch = (coding: FhirCoding) => boolean;

export interface ProvisionQuestion {
  zone: string;
  matches: CodeMatch;
  /** Whether policy, category or rule of the consent are mapped to the purpose: what a permit without codes permits. */
  isWholePolicy: boolean;
}

export interface ProvisionAnswer {
  /** Instants at which it is certainly permitted. */
  permitted: Instants;
  /** Instants at which a provision that names the purpose, or everything, may deny it. A silent base rule is no refusal. */
  refused: Instants;
}

/** Deeper nesting than any consent form has; each level multiplies the work. */
export const maxProvisionDepth = 10;
export const maxProvisions = 1000;

/** How many provisions there are, and how deep they nest; to be checked before {@link answerOf}. */
export function sizeOf(root: Provision | undefined): { count: number; depth: number } {
  if (root === undefined) return { count: 0, depth: 0 };
  const inner = (root.provision ?? []).map(sizeOf);
  return {
    count: 1 + inner.reduce((sum, { count }) => sum + count, 0),
    depth: 1 + Math.max(0, ...inner.map(({ depth }) => depth)),
  };
}

export function answerOf(
  { provision: root, policyRule }: Pick<FhirConsent, 'provision' | 'policyRule'>,
  question: ProvisionQuestion,
): ProvisionAnswer {
  // R4 leaves the base rule to the policy: opting out denies, and what is mapped permits.
  const base = isOptOut(policyRule) ? 'deny' : question.isWholePolicy ? 'permit' : undefined;
  const stated = root?.type ?? base;
  const { permitted, refused } = weigh({ ...root, type: stated }, question, { isRoot: true, isNamed: false });
  return { permitted, refused };
}

interface Weighed {
  permitted: Instants;
  denied: Instants;
  /** The part of `denied` that somebody stated about the purpose. */
  refused: Instants;
}

interface Place {
  isRoot: boolean;
  /** A provision around this one names the purpose. */
  isNamed: boolean;
}

function weigh(node: Provision, question: ProvisionQuestion, place: Place): Weighed {
  const named = namesPurpose(node, question.matches);
  const isNamed = place.isNamed || named === 'yes';
  const inner = (node.provision ?? []).map((child) => weigh(child, question, { isRoot: false, isNamed }));
  const innerPermits = union(...inner.map(({ permitted }) => permitted));
  const innerDenies = union(...inner.map(({ denied }) => denied));
  const innerRefusals = union(...inner.map(({ refused }) => refused));

  const certain = named === 'no' || isRestricted(node) ? never : certainPeriod(node.period, question.zone);
  const possible = couldName(node, question.matches) ? possiblePeriod(node.period, question.zone) : never;
  const isMeant = isNamed || (named === 'silent' && question.isWholePolicy);
  const own = node.type === 'permit' && isMeant ? always : never;
  const ownDenies = node.type === 'deny' ? difference(always, innerPermits) : never;
  // A base rule with exceptions is the form's own; what a person crossed out is among them.
  const isWhole = !isRestricted(node) && (!place.isRoot || inner.length === 0);
  const isRefusal = node.type === 'deny' && (isNarrowed(node) || isNamed || isWhole);
  return {
    permitted: difference(intersection(certain, union(innerPermits, own)), innerDenies),
    denied: intersection(possible, union(innerDenies, ownDenies)),
    refused: intersection(possible, union(innerRefusals, isRefusal ? ownDenies : never)),
  };
}

/** Whether codes and purposes name ours: both lists must where both are given; `silent` without either. */
function namesPurpose({ code, purpose }: Provision, matches: CodeMatch): 'yes' | 'no' | 'silent' {
  const lists = [code?.map(codingsOf), purpose?.map((coding) => [coding])].filter(
    (given) => given !== undefined && given.length > 0,
  );
  if (lists.length === 0) return 'silent';
  return lists.every((given) => given!.some((codings) => codings.some(matches))) ? 'yes' : 'no';
}

/** A concept in words alone may mean anything, and so may ours be meant. */
function couldName({ code, purpose }: Provision, matches: CodeMatch): boolean {
  const concepts = [...(code ?? []).map(codingsOf), ...(purpose ?? []).map((coding) => [coding])];
  return (
    concepts.length === 0 ||
    concepts.some((codings) => codings.some(matches) || codings.every((coding) => coding.code === undefined))
  );
}

const codingsOf = ({ coding }: FhirConcept): FhirCoding[] => coding ?? [];

const isNarrowed = ({ code, purpose }: Provision) => (code?.length ?? 0) + (purpose?.length ?? 0) > 0;

/** Narrowed by something that Anneal cannot weigh: who, which action, which data. */
function isRestricted(node: Provision): boolean {
  const lists = [node.actor, node.action, node.securityLabel, node.class, node.data];
  return lists.some((given) => given !== undefined && given.length > 0) || node.dataPeriod !== undefined;
}

function certainPeriod(period: FhirPeriod | undefined, zone: string): Instants {
  if (period === undefined) return always;
  const { start, end, _start, _end } = period;
  // A date that is said to be missing is unknown.
  if ((start === undefined && _start !== undefined) || (end === undefined && _end !== undefined))
    return never;
  return between(
    start === undefined ? -Infinity : momentOf(start, zone).latestStart,
    end === undefined ? Infinity : momentOf(end, zone).earliestEnd,
  );
}

function possiblePeriod(period: FhirPeriod | undefined, zone: string): Instants {
  const { start, end } = period ?? {};
  return between(
    start === undefined ? -Infinity : momentOf(start, zone).earliest,
    end === undefined ? Infinity : momentOf(end, zone).afterLatest,
  );
}

/** HL7 v3 ActCode. */
function isOptOut(rule: FhirConcept | undefined): boolean {
  return (rule?.coding ?? []).some(({ code }) => code === 'OPTOUT' || code === 'OPTOUTE');
}

/** Codes of permits and denies that stand for nothing here, for the report. */
export function codingsIn(root: Provision | undefined): FhirCoding[] {
  if (root === undefined) return [];
  const own = [...(root.code ?? []).flatMap(codingsOf), ...(root.purpose ?? [])];
  return [...own, ...(root.provision ?? []).flatMap(codingsIn)];
}
