/** What the demo does when the sites' own policy refuses its data: it says which rule, and goes on under another one. */
import type { AgentClient } from '../../api/client.ts';
import { AppError } from '../../shared/errors.ts';
import { openPolicy } from '../../simulation/policies.ts';

/** As the report names it. */
export type DemoPolicy = 'default' | 'open';

export const isRefusal = (thrown: unknown): thrown is AppError =>
  thrown instanceof AppError && thrown.code === 'POLICY_REFUSED';

/** What a site's policy says against the run in progress; null when it takes part. */
export async function refusalAt(site: { name: string; client: AgentClient }): Promise<AppError | null> {
  const { problem } = await site.client.status.query();
  if (problem?.code !== 'POLICY_REFUSED') return null;
  return new AppError(problem.code, `${site.name}: ${problem.message}`, { action: problem.action });
}

export const explainDemoPolicy = (refusal: AppError): string =>
  `${refusal.message} The demo goes on under the demo policy "open", which asks for no least number of subjects, contributors or steps. A hospital keeps the default policy.`;

/** Sites of a demo hold nobody's data but what its user gave it. */
export async function openPolicies(sites: readonly { client: AgentClient }[]): Promise<void> {
  for (const { client } of sites) await client.site.setPolicy.mutate({ policy: openPolicy });
}
