/** `anneal plan` and `anneal report` as processes. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, describe, expect, it } from 'vitest';
import { addPlanCommand } from '../../core/cli/commands/plan.ts';
import { type Outcome, openCommandLine } from '../fixtures/command-line.ts';
import { finishedRun } from '../fixtures/simulated-runs.ts';

const cli = openCommandLine();
afterAll(() => cli[Symbol.asyncDispose]());

const json = ({ stdout }: Outcome) => JSON.parse(stdout);
const fileWith = (name: string, text: string) => {
  const path = join(cli.folder, name);
  writeFileSync(path, text);
  return path;
};

/** Without a process of its own, which takes seconds to start. */
function planInProcess(...args: string[]): Promise<unknown> {
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addPlanCommand(program);
  return program.parseAsync(['plan', ...args, '--data', join(cli.folder, 'data')], { from: 'user' });
}

describe('anneal plan', () => {
  it('counts a run on shapes alone, with the settings of a file and of the command', async () => {
    const config = fileWith('run.yaml', 'rounds: 4\nrMax: 8\nwire:\n  up: int8\n  errorFeedback: true\n');
    const args = ['plan', '--base', 'vit-tiny', '--config', config, '--rounds', '6', '--wire', 'int8/fp16'];
    const outcome = await cli.anneal('data', ...args, '--sites', '3', '--classes', '5', '--json');
    const { base, rounds, config: used, totals, parameterReduction } = json(outcome);
    expect(outcome.code).toBe(0);
    expect(base).toEqual({ id: 'vit-tiny', parameters: 5_524_416, shapesOnly: true });
    expect(rounds).toHaveLength(6);
    expect(used.wire).toEqual({ up: 'int8', down: 'fp16', errorFeedback: true });
    // Class means first; then 24 layers of 192×192 at rank 8, and a head of 5 classes.
    expect(rounds[0]).toMatchObject({ mode: 'prototypes', parametersPerSite: 5 * 193 });
    expect(rounds[1].parametersPerSite).toBe(24 * 8 * 2 * 192 + 5 * 193);
    expect(parameterReduction).toBeCloseTo(1 - totals.parametersSent / totals.fedavgFullParameters, 12);
  });

  it('prints the plan and what reaches a target, for a config.json without weights', async () => {
    const folder = join(cli.folder, 'small-vit');
    mkdirSync(folder);
    const config = { model_type: 'vit', hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2 };
    const sizes = { intermediate_size: 128, image_size: 32, patch_size: 8 };
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...sizes }));
    const { code, stdout } = await cli.anneal('data', 'plan', '--base', folder, '--target', '50');
    expect(code).toBe(0);
    expect(stdout).toContain('sa-fedlora on small-vit');
    expect(stdout).toContain('FedAvg of the whole model');
    expect(stdout).toMatch(/50\.00 % fewer parameters than FedAvg: these settings (reach|do not reach) it/);
  });

  it('tells the ε of noise, and the noise of an ε', async () => {
    const noisy = 'strategy: ffa-lora\nrounds: 10\nprivacy: { at: site, clipNorm: 1, noiseMultiplier: 2 }\n';
    const args = [
      'plan',
      '--base',
      'vit-tiny',
      '--config',
      fileWith('noisy.yaml', noisy),
      '--epsilon',
      '3.62',
    ];
    const printed = await cli.anneal('data', ...args);
    const drawn = json(await cli.anneal('data', ...args, '--participation', '0.45', '--json'));
    // Of the table in docs/strategy-options.md.
    expect(printed.stdout).toContain('ε = 8.08 at δ = 0.00001 for a site that trains in all 10 rounds.');
    expect(printed.stdout).toMatch(/needs a noiseMultiplier of 4(\.0\d)?\.$/m);
    expect(drawn.privacy.always).toEqual({ rounds: 10, epsilon: expect.closeTo(8.08, 2) });
    expect(drawn.privacy.average).toEqual({ rounds: 5, epsilon: expect.closeTo(5.38, 2) });
    expect(drawn.noise.noiseMultiplier).toBeCloseTo(4, 1);
  });

  it.each([
    ['an unknown base', ['--base', 'vit-huge'], 'MODEL_UNKNOWN', 'vit-huge'],
    ['a contradiction', ['--r-min', '9', '--r-max', '4'], 'CONFIG_INVALID', 'rMin'],
    ['a combination', ['--strategy', 'head-only', '--local-head'], 'CONFIG_INVALID', 'localHead'],
    ['an ε of nothing', ['--epsilon', '0'], 'commander.invalidArgument', 'above 0'],
    ['an ε that no noise gives', ['--epsilon', '1e-9'], 'CONFIG_INVALID', 'noise multiplier'],
    ['a wrong precision', ['--wire', 'fp8'], 'commander.invalidArgument', 'fp32, fp16, int8'],
    ['a missing file', ['--config', 'nowhere.yaml'], 'NOT_FOUND', 'nowhere.yaml'],
  ])('refuses %s', async (_what, args, code, named) => {
    await expect(planInProcess(...args)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(named),
    });
  });

  it('names the file and the setting that is not known', async () => {
    const config = fileWith('typo.yaml', 'rnk: 4\n');
    const message = expect.stringMatching(/^typo\.yaml: .*"rnk"/);
    await expect(planInProcess('--config', config)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message,
    });
  });
});

describe('anneal report', () => {
  it('writes the page and prints the table', async () => {
    const runs = [finishedRun({ seed: 1 }), finishedRun({ seed: 2, accuracy: [0.5, 0.6, 0.9] })];
    const file = fileWith('runs.jsonl', runs.map((run) => `${JSON.stringify(run)}\n`).join(''));
    const out = join(cli.folder, 'report.html');
    const outcome = await cli.anneal('data', 'report', file, file, '--out', out, '--table', 'csv');
    expect(outcome.code).toBe(0);
    expect(outcome.stdout.split('\r\n')[1]).toMatch(/^sa-fedlora,2,85.0 ± 63.5,/);
    expect(await readFile(out, 'utf8')).toContain('2 of 2 runs finished');
  });

  it('takes the folder that the simulation wrote, and says what it needs where there are no results', async () => {
    mkdirSync(join(cli.folder, 'results'));
    fileWith('results/runs.jsonl', `${JSON.stringify(finishedRun())}\n`);

    const found = await cli.anneal('data', 'report', 'results', '--table', 'csv');
    const none = await cli.anneal('data', 'report', 'data', '--table', 'csv', '--json');

    expect(found.code).toBe(0);
    expect(found.stdout.split('\r\n')[1]).toMatch(/^sa-fedlora,1,/);
    expect(json(none).error).toMatchObject({
      code: 'NOT_FOUND',
      action: 'Give the runs.jsonl that "anneal simulate" wrote, or the folder that holds it.',
    });
  });

  it('names the line that is damaged', async () => {
    const file = fileWith('damaged.jsonl', `${JSON.stringify(finishedRun())}\n{"half\n`);
    const outcome = await cli.anneal('data', 'report', file, '--table', 'markdown', '--json');
    expect(outcome.code).toBe(1);
    expect(json(outcome).error.message).toContain('damaged.jsonl, line 2');
  });
});
