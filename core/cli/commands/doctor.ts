/** `anneal doctor`: which devices of this machine can train, how fast, and what is missing for the others. */
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { defaultDataFolder } from '../../agent/paths.ts';
import { writeDeviceChoice } from '../../engine/devices/device-choice.ts';
import { measureMachine } from '../../engine/devices/measure-machine.ts';
import { listAllDevices } from '../../engine/engines.ts';
import { createCatalogue } from '../../models/catalogue.ts';
import { AppError } from '../../shared/errors.ts';
import { openDataFolder } from '../../store/data-folder.ts';
import { readWholeNumber } from '../arguments.ts';
import { describeCheckup, describeDevices, describeStep, toJson } from '../doctor/report.ts';
import { printJson, printLine } from '../output.ts';
import { createProgressLine } from '../progress-line.ts';
import { interruptedExitCode, onStopSignal } from '../stop-signals.ts';

/** What a coordinator's run uses when nobody says otherwise. */
const defaultBatchSize = 16;
const defaultTimeSeconds = 60;

interface DoctorOptions {
  base: string;
  batch: number;
  time: number;
  save: boolean;
  data?: string;
  json: boolean;
}

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('list the devices that can train, measure real training steps on each and recommend one')
    .option('--base <id>', 'base model to measure with', 'face-resnet-128')
    .option('--batch <number>', 'images per training step', readWholeNumber, defaultBatchSize)
    .option('--time <seconds>', 'approximate time for all measurements', readWholeNumber, defaultTimeSeconds)
    .option('--save', 'save the recommendation, so this installation trains that way', false)
    .option('--data <folder>', 'data folder with imported models; --save writes to it')
    .option('--json', 'print JSON', false)
    .action((options: DoctorOptions) => runDoctor(options));
}

async function runDoctor(options: DoctorOptions): Promise<void> {
  if (options.batch < 1 || options.time < 1) {
    throw new AppError('CONFIG_INVALID', 'Both --batch and --time must be at least 1.');
  }
  const stop = new AbortController();
  const ignore = onStopSignal(() => stop.abort());
  const progress = createProgressLine(process.stderr);
  try {
    // An unknown model is named before anything is measured.
    const dataFolder = resolve(options.data ?? defaultDataFolder());
    const modelsFolder = join(dataFolder, 'models');
    const base = await createCatalogue(modelsFolder).load(options.base);
    const devices = await listAllDevices();
    if (!options.json) printLine(describeDevices(devices));
    const checkup = await measureMachine(devices, {
      baseId: base.id,
      modelsFolder,
      batchSize: options.batch,
      timeLimitMs: options.time * 1000,
      signal: stop.signal,
      onProgress: (device, next) => progress.show(describeStep(device, next)),
    });
    progress.clear();
    if (options.save && checkup.choice !== null) {
      await writeDeviceChoice(openDataFolder(dataFolder).dir, checkup.choice);
    }
    if (options.json) printJson(toJson(checkup, options.save));
    else printLine(describeCheckup(checkup, options.save));
    process.exitCode = checkup.recommendation === null ? 1 : 0;
  } catch (thrown) {
    progress.clear();
    if (!stop.signal.aborted) throw thrown;
    process.stderr.write('Stopped.\n');
    process.exitCode = interruptedExitCode;
  } finally {
    ignore();
  }
}
