/**
 * One aggregation in a process of its own, as a coordinator does it: `node aggregate-run.ts FOLDER STRATEGY SITES`.
 * Writes the result beside the states and its cost as JSON to standard output.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { type StrategyName, strategyNameSchema } from '../../core/config/setting.ts';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { baseSha256, classes, examplesOf, globalFile, rank, scale, siteFile } from './aggregate-states.ts';
import { residentBytes } from './resident-memory.ts';

const [folder = '', name, count = ''] = process.argv.slice(2);
const result = await aggregate(folder, strategyNameSchema.parse(name), Number(count));
process.stdout.write(`${JSON.stringify(result)}\n`);

async function aggregate(folder: string, strategyName: StrategyName, sites: number) {
  const startBytes = residentBytes('VmRSS');
  const delays = monitorEventLoopDelay({ resolution: 5 });
  const strategy = getStrategy(strategyName);
  const config = defaultRunConfig({
    ...{
      strategy: strategyName,
      baseId: 'vit-base',
      baseSha256,
      classes,
      loraScale: scale,
      rMax: rank,
      rMin: rank,
    },
    ...{ rounds: 2, initiatingRounds: 0, coolingRounds: 0 },
  });
  const files = new Map(Array.from({ length: sites }, (_, site) => [`site-${site}`, siteFile(site)]));
  delays.enable();
  const [cpuStart, wallStart] = [process.cpuUsage(), performance.now()];
  const { state, energyKept, drift } = await strategy.aggregateTrain({
    config,
    plan: strategy.configureTrain(config, 0),
    next: strategy.configureTrain(config, 1),
    global: decodeModelState(await readFile(join(folder, globalFile)), globalFile, { handedOver: true }),
    updates: {
      sites: [...files.keys()].map((siteId, site) => ({ siteId, examples: examplesOf(site) })),
      async read(siteId) {
        const file = files.get(siteId)!;
        // As core/strategy/wire/update.ts reads an update.
        return decodeModelState(await readFile(join(folder, file)), file, { handedOver: true });
      },
    },
    memory: null,
    base: { weights: new Map(), headGain: 1 },
    products: createOnnxRuntimeProducts(),
  });
  const bytes = encodeModelState(state);
  const cpu = process.cpuUsage(cpuStart);
  const wallSeconds = (performance.now() - wallStart) / 1000;
  delays.disable();
  const whole = process.cpuUsage();
  await writeFile(join(folder, 'result.safetensors'), bytes);
  return {
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
    wallSeconds,
    processCpuSeconds: (whole.user + whole.system) / 1e6,
    startBytes,
    peakBytes: residentBytes('VmHWM'),
    longestBlockMs: delays.max / 1e6,
    energyKept,
    driftShare: drift.share,
  };
}
