/** Processes that die, stand still, or are ended and started as at an update. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Inflict } from './index.ts';

export const kill: Inflict<'kill'> = async ({ federation }, { member, downMs }) => {
  const agent = federation.agentOf(member);
  await agent.alone(async () => {
    await agent.kill();
    await sleep(downMs);
    await agent.start();
  });
};

export const restart: Inflict<'restart'> = async ({ federation }, { member, downMs }) => {
  const agent = federation.agentOf(member);
  await agent.alone(async () => {
    await agent.stop();
    await sleep(downMs);
    await agent.start();
  });
};

export const freeze: Inflict<'freeze'> = async ({ federation }, { member, frozenMs }) => {
  const agent = federation.agentOf(member);
  await agent.alone(async () => {
    agent.signal('SIGSTOP');
    await sleep(frozenMs);
    agent.signal('SIGCONT');
  });
};

export const killTrainer: Inflict<'kill-trainer'> = async ({ federation, note }, { member }) => {
  const children = federation.agentOf(member).children();
  for (const pid of children) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {} // It has ended meanwhile.
  }
  note(`${member}: ${children.length} child process(es) killed`);
};

export const killBroker: Inflict<'kill-broker'> = async ({ federation: { broker } }, { downMs }) => {
  await broker?.kill();
  await sleep(downMs);
  await broker?.start();
};
