/** Baseline: a classification head on the frozen base model, averaged; what any adaptation has to beat. */
import { averaging } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const headOnly: Strategy = {
  ...averaging({ mode: 'head' }),
  name: 'head-only',
  rules: [
    {
      option: { setting: 'localHead', values: 'true' },
      with: { setting: 'strategy', values: 'head-only' },
      why: 'nothing would travel at all',
      instead: 'Set "localHead" to false, or choose a strategy that trains more than the head.',
      refuses: ({ localHead }) => localHead,
    },
  ],
};
