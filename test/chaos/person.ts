/** What the people of the hospitals do when the faults are over: read what Anneal says, and do what it advises. */
import type { World } from './faults/index.ts';
import { persist } from './federation.ts';

const patienceMs = 10_000;

export async function doWhatIsAdvised(world: World): Promise<void> {
  await resumeRun(world);
  await confirmClocks(world);
}

/** A run that waits for a person says why; the disk has room again by now. */
async function resumeRun({ federation: { coordinator }, note }: World): Promise<void> {
  const overview = await persist(() => coordinator.client().coordinator.overview.query(), patienceMs);
  const [newest] = overview?.runs ?? [];
  if (newest?.pause?.kind !== 'person') return;
  note(`coordinator: a person resumes the run (${newest.pause.failure?.code ?? 'no reason'})`);
  await persist(() => coordinator.client().coordinator.resumeRun.mutate({ runId: newest.id }), patienceMs);
}

async function confirmClocks({ federation, note }: World): Promise<void> {
  for (const { agent } of federation.sites) {
    const status = await persist(() => agent.client().status.query(), patienceMs);
    if (status?.problem?.code !== 'CLOCK_RAN_BACK') continue;
    note(`${agent.member}: a person confirms the clock`);
    await persist(() => agent.client().consent.confirmClock.mutate(), patienceMs);
  }
}
