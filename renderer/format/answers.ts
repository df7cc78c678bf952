/** What the policies of the sites say to a plan, in words. */
import type { RunPlan, SiteAnswer } from '../../core/api/contract.ts';
import { formatPlural } from './format.ts';
import type { StatusWord } from './words.ts';

export function answerWord({ policy, refusals }: SiteAnswer): StatusWord {
  if (refusals.length > 0) return { label: 'Refuses', color: 'red' };
  return policy === null ? { label: 'Not known yet', color: 'gray' } : { label: 'Allows it', color: 'green' };
}

const refuses = ({ refusals }: SiteAnswer) => refusals.length > 0;

/** Whether the refusals leave too few sites for a round. */
export function isHopeless({ sites, quorum }: Pick<RunPlan, 'sites' | 'quorum'>): boolean {
  const refusing = sites.filter(refuses).length;
  return refusing > 0 && sites.length - refusing < quorum;
}

/** Beside the start button: who would take part, when not all would. */
export function answerSummary({ sites, quorum }: Pick<RunPlan, 'sites' | 'quorum'>): string | null {
  const refusing = sites.filter(refuses).length;
  if (refusing === 0) return null;
  const willing = `${sites.length - refusing} of ${formatPlural(sites.length, 'site')} would take part`;
  return isHopeless({ sites, quorum }) ? `Only ${willing}, and a round needs ${quorum}.` : `${willing}.`;
}
