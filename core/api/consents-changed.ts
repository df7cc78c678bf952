/** Tells everybody who listens that something about consents or subjects is in the store. */
import type { AgentContext } from './context.ts';

/** After every write of this kind: the lists and the audit trail are other ones. */
export function consentsChanged(agent: Pick<AgentContext, 'emit'>): void {
  agent.emit({ type: 'changed', what: 'dataset' });
  agent.emit({ type: 'changed', what: 'audit' });
}
