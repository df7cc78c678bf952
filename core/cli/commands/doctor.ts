/** `anneal doctor`: which devices of this machine can train, and how fast. */
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { createOnnxRuntimeEngine } from '../../engine/onnxruntime/engine.ts';
import { startTrainer } from '../../engine/trainer.ts';
import { toAppError } from '../../shared/errors.ts';
import { formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';

const batchSize = 16;
const steps = 3;

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('list the devices that can train, with a few real training steps on each')
    .option('--base <id>', 'base model to measure with', 'face-resnet-128')
    .option('--json', 'print JSON', false)
    .action(async (options: { base: string; json: boolean }) => {
      const devices = await createOnnxRuntimeEngine().devices();
      const threads = availableParallelism();
      const results = [];
      for (const device of devices) {
        if (!device.available) {
          results.push({ ...device, imagesPerSecond: null, peakMemoryBytes: null });
          continue;
        }
        const trainer = startTrainer();
        try {
          const measured = await trainer.measure({
            baseId: options.base,
            device: device.kind,
            threads,
            batchSize,
            steps,
          });
          results.push({ ...device, ...measured });
        } catch (thrown) {
          results.push({
            ...device,
            available: false,
            reason: toAppError(thrown).message,
            imagesPerSecond: null,
            peakMemoryBytes: null,
          });
        } finally {
          await trainer.close();
        }
      }
      const best = results
        .filter((device) => device.imagesPerSecond !== null)
        .sort((a, b) => b.imagesPerSecond! - a.imagesPerSecond!)[0];
      if (options.json)
        return printJson({
          base: options.base,
          batchSize,
          threads,
          devices: results,
          recommended: best?.kind ?? null,
        });
      printLine(
        formatTable(
          ['device', 'name', 'images/s', 'memory', 'note'],
          results.map((device) => [
            device.kind,
            device.name,
            device.imagesPerSecond === null ? '–' : device.imagesPerSecond.toFixed(1),
            device.peakMemoryBytes === null ? '–' : `${Math.round(device.peakMemoryBytes / 1e6)} MB`,
            device.reason ?? '',
          ]),
          [2, 3],
        ),
      );
      printLine(
        best === undefined
          ? 'No device of this machine can train.'
          : `Anneal trains on: ${best.kind} (${best.name}), ${threads} threads, batches of ${batchSize}.`,
      );
    });
}
