/** What becomes of the bytes between a site and its broker. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Inflict } from './index.ts';

export const slowLink: Inflict<'slow-link'> = async ({ federation }, fault) => {
  const { proxy } = federation.siteOf(fault.member);
  const { delayMs, bytesPerSecond } = fault;
  proxy.set({ delayMs, bytesPerSecond });
  await sleep(fault.lastsMs);
  proxy.set({});
};

export const resetLink: Inflict<'reset-link'> = async ({ federation }, { member, lastsMs, everyMs }) => {
  const { proxy } = federation.siteOf(member);
  const until = Date.now() + lastsMs;
  for (let isRefusing = true; Date.now() < until; isRefusing = !isRefusing) {
    proxy.set({ refuses: isRefusing });
    proxy.reset();
    await sleep(everyMs);
  }
  proxy.set({});
};

export const blackHole: Inflict<'black-hole'> = async ({ federation }, { member, lastsMs }) => {
  const { proxy } = federation.siteOf(member);
  proxy.set({ isBlackHole: true });
  await sleep(lastsMs);
  proxy.set({});
};
