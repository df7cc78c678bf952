/** What the people of the hospitals do when the faults are over: read what Anneal says, and do what it advises. */

import type { World } from './faults/index.ts';
import { persist } from './federation.ts';

const patienceMs = 10_000;

export async function doWhatIsAdvised({ federation, note }: World): Promise<void> {
  for (const { agent } of federation.sites) {
    const status = await persist(() => agent.client().status.query(), patienceMs);
    if (status?.problem?.code !== 'CLOCK_RAN_BACK') continue;
    note(`${agent.member}: a person confirms the clock`);
    await persist(() => agent.client().consent.confirmClock.mutate(), patienceMs);
  }
}
