/** `anneal models …`: the base models that runs on this machine can start from. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Alignment, alignments, describeAlignment, originalAlignment } from '../../config/alignment.ts';
import { defaultLeakLimits, hardlyCompresses, type LeakReport } from '../../config/leak-report.ts';
import { describeChannelOrder, describeNormalisation } from '../../config/preprocessing.ts';
import { type ModelReport, reportedRanks } from '../../models/inspect-model.ts';
import type { ImportOptions } from '../../models/model-formats.ts';
import type { ImportProgress, MeasuredManifest } from '../../policy/leak-test-service.ts';
import { plural } from '../../shared/text.ts';
import { readWholeNumber } from '../arguments.ts';
import { formatBytes, formatCount, formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { createProgressLine } from '../progress-line.ts';
import { interruptedExitCode, onStopSignal } from '../stop-signals.ts';
import { openCatalogue } from '../with-agent.ts';

/** `0.5` for all channels, or `0.485,0.456,0.406` for red, green and blue. */
function readChannels(text: string): number[] {
  const values = text.split(',').map(Number);
  if (text.trim() === '' || !values.every(Number.isFinite) || (values.length !== 1 && values.length !== 3)) {
    throw new InvalidArgumentError('Give one number, or three with commas between them.');
  }
  return values.length === 1 ? [values[0]!, values[0]!, values[0]!] : values;
}

function readRange(text: string): 1 | 255 {
  if (text === '1' || text === '255') return text === '1' ? 1 : 255;
  throw new InvalidArgumentError('Give 1 or 255.');
}

/** The settings of an import, which an inspection of a file not imported yet needs too. */
function addImportOptions(command: Command): Command {
  return command
    .option('--licence <name>', 'licence of the weights, for example Apache-2.0')
    .option('--image-size <pixels>', 'side of the square input', readWholeNumber)
    .addOption(
      new Option(
        '--pooling <kind>',
        'how tokens become one embedding (ViT: class, mean; ONNX: first, mean)',
      ).choices(['class', 'mean', 'first']),
    )
    .option('--mean <r,g,b>', 'means of the pixel values, one number or three', readChannels)
    .option('--std <r,g,b>', 'standard deviations of the pixel values', readChannels)
    .option(
      '--range <largest>',
      'pixel values that --mean and --std refer to: 1 (0…1, the default) or 255; alone: those that the network takes as they are',
      readRange,
    )
    .addOption(new Option('--channels <order>', 'ONNX: order of the channels').choices(['rgb', 'bgr']))
    .addOption(new Option('--deviation <r,g,b>', 'the same as --std').argParser(readChannels).hideHelp())
    .addOption(
      new Option('--channel-order <order>', 'the same as --channels').choices(['rgb', 'bgr']).hideHelp(),
    )
    .addOption(
      new Option(
        '--alignment <template>',
        'how faces are cut out for it (default: arcface-112 for ONNX files of 112 × 112, else dlib-150)',
      ).choices(alignments),
    )
    .option('--output <name>', 'ONNX: name of the embedding, if it is not the only output');
}

interface Options extends ImportOptions {
  /** Short for `deviation` and `channelOrder`. */
  std?: number[];
  channels?: 'rgb' | 'bgr';
  data?: string;
  json: boolean;
}

interface ImportCall extends Options {
  allowLeak: boolean;
}

function importOptions({ data: _data, json: _json, std, channels, ...rest }: Options): ImportOptions {
  return {
    ...rest,
    ...(std === undefined ? {} : { deviation: std }),
    ...(channels === undefined ? {} : { channelOrder: channels }),
  };
}

function shortHash(sha256: string | null): string {
  return sha256 === null ? '–' : sha256.slice(0, 12);
}

function normalisationOf(
  normalisation: ModelReport['normalisation'],
  preprocessing: ModelReport['preprocessing'],
): string {
  const words = describeNormalisation(normalisation, preprocessing);
  return preprocessing?.source === 'recognised' ? `${words} (recognised)` : words;
}

function channelsOf({ channelOrder, channelSource }: NonNullable<ModelReport['preprocessing']>): string {
  const order = describeChannelOrder(channelOrder);
  if (channelSource === 'assumed')
    return `${order} (assumed; give --channels bgr if the model wants them the other way round)`;
  return channelSource === 'recognised' ? `${order} (recognised by the means)` : order;
}

const alignmentOf = (alignment: Alignment, isAssumed: boolean): string =>
  `${describeAlignment(alignment)}${isAssumed ? '; assumed, --alignment says another' : ''}`;

/** Name and value, one per line, the values under each other. */
function printFields(fields: readonly (readonly [string, string])[]): void {
  const width = Math.max(...fields.map(([name]) => name.length));
  for (const [name, value] of fields) printLine(`${name.padEnd(width)}  ${value}`);
}

function printReport(report: ModelReport): void {
  printFields([
    ['id', report.id],
    ['format', report.format],
    ['hash', report.sha256 ?? '–'],
    ['licence', report.licence],
    ['input', report.inputSize === null ? '–' : `${report.inputSize} × ${report.inputSize} pixels`],
    ['alignment', report.alignment === null ? '–' : alignmentOf(report.alignment, report.alignmentAssumed)],
    [
      'normalisation',
      report.sha256 === null ? '–' : normalisationOf(report.normalisation, report.preprocessing),
    ],
    ...(report.preprocessing === null ? [] : [['channels', channelsOf(report.preprocessing)] as const]),
    ['embedding', report.embeddingSize === null ? '–' : `${report.embeddingSize} numbers`],
    ['weights', report.parameters === null ? '–' : formatCount(report.parameters)],
    ['imported', report.importedAt ?? (report.format === 'built-in' ? 'comes with Anneal' : 'not yet')],
  ]);
  if (report.presets.length > 0) {
    printLine();
    printLine('Layers that LoRA can adapt, and how many values travel at each rank:');
    printLine(
      formatTable(
        ['target modules', 'layers', 'share', ...reportedRanks.map((rank) => `rank ${rank}`)],
        report.presets.map(({ name, layers, share, parametersByRank }) => [
          name,
          formatCount(layers),
          `${Math.round(100 * share)} %`,
          ...reportedRanks.map((rank) => formatCount(parametersByRank[rank]!)),
        ]),
        [1, 2, ...reportedRanks.map((_, index) => index + 3)],
      ),
    );
  }
  if (report.onnx !== null) printOnnx(report.onnx);
  if (report.leak !== null) printLeak(report.leak);
  if (report.problem !== null) {
    printLine();
    printLine(`This model cannot be used: ${report.problem.message} ${report.problem.action}`);
  }
}

function printOnnx(onnx: NonNullable<ModelReport['onnx']>): void {
  const { opset, producer, operators, unsupported, externalBytes } = onnx;
  const counts = Object.entries(operators).sort(([a], [b]) => a.localeCompare(b));
  printLine();
  printFields([
    ['opset', String(opset)],
    ['written by', producer === '' ? 'not stated' : producer],
    ['operators', counts.map(([name, count]) => `${name} ${count}`).join(', ')],
    ...(externalBytes > 0 ? [['weights in other files', formatBytes(externalBytes)] as const] : []),
  ]);
  if (unsupported.length === 0) return;
  printLine();
  printLine('Operators that Anneal does not support:');
  printLine(
    formatTable(
      ['operator', 'node'],
      unsupported.map(({ op, node }) => [op, node]),
    ),
  );
}

/** What the leak test found, for people. */
function printLeak(leak: LeakReport): void {
  const { correlation, ssim, meanFaceSsim, embeddingSize, inputValues, layers } = leak;
  const limits = defaultLeakLimits;
  const verdict = hardlyCompresses(leak) ? 'too much: this network hardly compresses' : 'within the limits';
  printLine();
  printLine('How well images of faces can be rebuilt from the embedding (docs/models.md):');
  printFields([
    ['correlation', `${correlation.toFixed(2)} (limit ${limits.correlation}; a copy of the image 0.88)`],
    [
      'similarity',
      `${ssim.toFixed(2)} (limit ${limits.ssim}; the mean face alone ${meanFaceSsim.toFixed(2)})`,
    ],
    [
      'width',
      `${formatCount(embeddingSize)} numbers for ${formatCount(inputValues)} (limit ${formatCount(Math.floor(inputValues * limits.embeddingShare))})`,
    ],
    ['depth', `${plural(layers, 'layer')} (at least ${limits.layers})`],
    ['verdict', verdict],
  ]);
}

function printImported(manifest: MeasuredManifest): void {
  const { id, sha256, files, leak, alignment = originalAlignment, alignmentAssumed = false } = manifest;
  const { normalisation, preprocessing } = manifest;
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  printLine(`Imported "${id}": ${plural(files.length, 'file')}, ${formatBytes(sizeBytes)}, hash ${sha256}.`);
  printLine(`Faces are cut out for it as ${alignmentOf(alignment, alignmentAssumed)}.`);
  if (preprocessing !== undefined) {
    printFields([
      ['normalisation', normalisationOf(normalisation, preprocessing)],
      ['channels', channelsOf(preprocessing)],
    ]);
  }
  printLine(`Sites that train on it must import the same model. "anneal models inspect ${id}" shows more.`);
  printLeak(leak);
}

function describeProgress({ step, share }: ImportProgress): string {
  if (step === 'opening') return 'Opening the copy …';
  return `${step === 'copying' ? 'Copying' : `Leak test: ${step}`}, ${Math.floor(100 * share)} % …`;
}

async function importMeasured(path: string, { allowLeak, ...options }: ImportCall): Promise<void> {
  const stop = new AbortController();
  const ignore = onStopSignal(() => stop.abort());
  const progress = createProgressLine(process.stderr);
  try {
    const manifest = await openCatalogue(options.data).leakTests.import(path, importOptions(options), {
      allowLeak,
      signal: stop.signal,
      onProgress: (done) => progress.show(describeProgress(done)),
    });
    progress.clear();
    if (options.json) printJson(manifest);
    else printImported(manifest);
  } catch (thrown) {
    progress.clear();
    if (!stop.signal.aborted) throw thrown;
    process.stderr.write('Stopped; nothing was imported.\n');
    process.exitCode = interruptedExitCode;
  } finally {
    ignore();
  }
}

/** One that is installed is measured now if it never was; one at a path at its import. */
async function inspectMeasured(idOrPath: string, options: Options): Promise<ModelReport> {
  const { inspect, leakTests } = openCatalogue(options.data);
  const report = await inspect(idOrPath, importOptions(options));
  const isInstalled = report.format === 'built-in' || report.importedAt !== null;
  if (!isInstalled || report.leak !== null) return report;
  const progress = createProgressLine(process.stderr);
  try {
    return {
      ...report,
      leak: await leakTests.leakOf(report.id, {
        onProgress: (done) => progress.show(describeProgress(done)),
      }),
    };
  } finally {
    progress.clear();
  }
}

export function addModelCommands(program: Command): void {
  const models = program.command('models').description('list, import, inspect and verify base models');

  models
    .command('list')
    .description('list the base models of this installation')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options: Options) => {
      const catalogue = openCatalogue(options.data);
      const entries = [];
      for (const entry of await catalogue.list()) {
        const { id, sha256 } = entry;
        const leak = await catalogue.keptLeak(id);
        entries.push({ ...entry, sha256: sha256 ?? (await catalogue.identify(id)), leak });
      }
      if (options.json) return printJson(entries);
      printLine(
        formatTable(
          ['id', 'format', 'input', 'alignment', 'hash', 'licence', 'imported', 'leak'],
          entries.map(({ id, format, inputSize, alignment, sha256, licence, importedAt, leak }) => [
            id,
            format,
            `${inputSize} × ${inputSize}`,
            alignment,
            shortHash(sha256),
            licence,
            importedAt?.slice(0, 10) ?? '–',
            leak?.correlation.toFixed(2) ?? '–',
          ]),
        ),
      );
    });

  addImportOptions(
    models
      .command('import')
      .description(
        'install a vision transformer (folder with config.json and model.safetensors) or an ONNX file',
      )
      .argument('<path>', 'folder or file')
      .option('--id <id>', 'name of the model here (default: made from the name of the folder or file)'),
  )
    .option('--allow-leak', 'import it even when images can be rebuilt from its embedding', false)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(importMeasured);

  addImportOptions(
    models
      .command('inspect')
      .description('describe an installed model, or a folder or file that has not been imported yet')
      .argument('<id-or-path>', 'id of an installed model, or a path'),
  )
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (idOrPath: string, options: Options) => {
      const report = await inspectMeasured(idOrPath, options);
      if (options.json) printJson(report);
      else printReport(report);
      if (report.problem !== null) process.exitCode = 1;
    });

  models
    .command('verify')
    .description(
      'read every byte of the installed models and check that nothing has changed since the import',
    )
    .argument('[id]', 'check only this model')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (id: string | undefined, options: Options) => {
      const checks = await openCatalogue(options.data).verify(id);
      if (options.json) printJson(checks);
      for (const check of options.json ? [] : checks) {
        const { problem } = check;
        printLine(
          problem === null
            ? `${check.id}: unchanged, hash ${check.sha256}`
            : `${check.id}: ${problem.message} ${problem.action}`,
        );
      }
      if (checks.some((check) => check.problem !== null)) process.exitCode = 1;
    });
}
