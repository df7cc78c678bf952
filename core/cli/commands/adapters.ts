/** `anneal adapters …`: list, export, merge and import trained adapters, for other programs and back. */
import { readFile, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { ModelState } from '../../lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../../lora/state-file.ts';
import { adapterFormats, type ExportOptions, writeAdapter } from '../../models/adapter-files.ts';
import type { BaseModel } from '../../models/base-model.ts';
import type { Catalogue } from '../../models/catalogue.ts';
import { readNormScales } from '../../models/folded-norm.ts';
import { initialState } from '../../models/initial-state.ts';
import { importPeftFolder } from '../../models/peft-import.ts';
import { peftNameStyles } from '../../models/peft-names.ts';
import { AppError } from '../../shared/errors.ts';
import { sha256 } from '../../shared/hash.ts';
import { plural } from '../../shared/text.ts';
import { writeFileAtomically } from '../../store/atomic-file.ts';
import { readList, readNumber } from '../arguments.ts';
import { formatBytes, formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { openCatalogue, withAgent } from '../with-agent.ts';

const isHash = (text: string) => /^[0-9a-f]{64}$/.test(text);

/** The base model named, else the one that the adapter's file names by its hash. */
async function findBase(catalogue: Catalogue, id: string | undefined, state: ModelState): Promise<BaseModel> {
  if (id !== undefined) return catalogue.load(id);
  for (const entry of await catalogue.list()) {
    const identity = entry.sha256 ?? (await catalogue.identify(entry.id));
    if (identity === state.baseSha256) return catalogue.load(entry.id);
  }
  throw new AppError('MODEL_UNKNOWN', 'The base model that this adapter belongs to is not installed here.', {
    action: 'Import it with "anneal models import", or name it with --base.',
  });
}

async function readBytes(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new AppError('MODEL_FILE_INVALID', `The adapter file ${basename(file)} cannot be read.`, {
      action: 'Give the SHA-256 of an adapter in the data folder, an adapter file or a PEFT folder.',
      cause,
    });
  }
}

/** From an adapter file of Anneal's, or a PEFT folder that Anneal wrote or whose base is named. */
async function readAdapter(
  path: string,
  catalogue: Catalogue,
  baseId: string | undefined,
): Promise<{ state: ModelState; base: BaseModel }> {
  const isFolder = (await stat(path).catch(() => null))?.isDirectory() ?? false;
  if (isFolder) {
    throw new AppError('CONFIG_INVALID', `${basename(path)} is a folder, not an adapter file.`, {
      action: 'Turn a PEFT folder into an adapter file with "anneal adapters import".',
    });
  }
  const state = decodeModelState(await readBytes(path), basename(path));
  return { state, base: await findBase(catalogue, baseId, state) };
}

interface ExportCall extends ExportOptions {
  run?: string;
  base?: string;
  arcfaceScale?: number;
  data?: string;
  json: boolean;
}

const scalesPath = (given: string): string => (given === 'none' ? given : resolve(given));
const scalesHelp =
  'scales of batch normalisations that the base model\'s file has folded into its convolutions (safetensors), or "none" if it has not';

/** Adapters of the data folder go out through the agent, which writes that into its audit trail. */
async function exportAdapter(adapter: string, target: string, call: ExportCall): Promise<void> {
  const { format = 'peft', names, bnScales } = call;
  const options = {
    format,
    ...(names === undefined ? {} : { names }),
    ...(bnScales === undefined ? {} : { bnScales: scalesPath(bnScales) }),
  };
  const path = resolve(target);
  let withdrawn = false;
  if (isHash(adapter)) {
    ({ withdrawn } = await withAgent(call.data, (client) =>
      client.exportAdapter.mutate({
        sha256: adapter,
        ...(call.run && { runId: call.run }),
        folder: path,
        ...options,
      }),
    ));
  } else {
    const { state, base } = await readAdapter(resolve(adapter), openCatalogue(call.data), call.base);
    const arc = call.arcfaceScale === undefined ? {} : { arcScale: call.arcfaceScale };
    await writeAdapter(path, state, base, { ...options, ...arc });
  }
  if (call.json) return printJson({ format, path, withdrawn });
  printLine(`Written to ${target}.`);
  if (withdrawn)
    printLine(
      'Somebody whose images this adapter was made with has withdrawn since; a note about it lies beside the files.',
    );
}

interface ImportCall {
  base: string;
  classes?: string[];
  bnScales?: string;
  out: string;
  data?: string;
  json: boolean;
}

async function importAdapter(folder: string, call: ImportCall): Promise<void> {
  const base = await openCatalogue(call.data).load(call.base);
  const named = call.classes === undefined ? {} : { classes: call.classes };
  const normScales =
    call.bnScales === undefined ? undefined : await readNormScales(scalesPath(call.bnScales));
  const { state } = await importPeftFolder(resolve(folder), base, { ...named, normScales });
  const hasHead = state.head.size > 0;
  const complete = hasHead ? state : { ...state, head: freshHead(base, state.classes) };
  const bytes = encodeModelState(complete);
  await writeFileAtomically(resolve(call.out), bytes).catch((cause: unknown) => {
    throw new AppError('CONFIG_INVALID', 'The adapter file cannot be written there.', {
      action: 'Name another file with --out.',
      cause,
    });
  });
  const ranks = [...new Set([...state.lora.values()].map((layer) => layer.r))].sort((x, y) => x - y);
  const summary = {
    file: resolve(call.out),
    sha256: sha256(bytes),
    base: base.id,
    layers: state.lora.size,
    ranks,
  };
  if (call.json) return printJson({ ...summary, classes: state.classes, hasHead });
  const head = hasHead ? '' : ' The adapter had no head, so Anneal made a new one.';
  printLine(
    `Written to ${call.out}: ${plural(state.lora.size, 'layer')} of rank ${ranks.join(', ')} for ${base.id}.${head}\nSHA-256 ${summary.sha256}`,
  );
}

/** As a run would start it; the seed is fixed, so that the same folder always gives the same file. */
function freshHead(base: BaseModel, classes: readonly string[]): ModelState['head'] {
  return initialState(base, { classes, targetModules: 'all', r: 0, scale: 1, seed: 1 }).head;
}

export function addAdapterCommands(program: Command): void {
  const adapters = program.command('adapters').description('list, export, merge and import trained adapters');

  adapters
    .command('list')
    .description('list the adapters in the data folder')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (options) => {
      const rows = await withAgent(options.data, (client) => client.adapters.query());
      if (options.json) return printJson(rows);
      const cells = rows.map((row) => [
        row.sha256,
        row.kind,
        String(row.round + 1),
        String(row.rank),
        formatBytes(row.sizeBytes),
        row.createdAt,
        row.withdrawn ? 'withdrawn' : '',
      ]);
      printLine(
        formatTable(['SHA-256', 'kind', 'round', 'rank', 'size', 'made', 'consent'], cells, [2, 3, 4]),
      );
    });

  adapters
    .command('export <adapter> <target>')
    .description('write an adapter (its SHA-256 in the data folder, or a file) for other programs')
    .addOption(
      new Option(
        '--format <name>',
        'peft: a folder for Hugging Face PEFT; onnx: the whole network in one file; weights: the merged weights',
      )
        .choices(adapterFormats)
        .default('peft'),
    )
    .addOption(
      new Option('--names <library>', 'naming scheme of the layers in PEFT files').choices(peftNameStyles),
    )
    .option('--bn-scales <file>', scalesHelp)
    .option('--run <id>', 'run whose adapter is meant, when several runs made this file')
    .option('--base <id>', 'base model, if not the one whose hash the adapter holds')
    .option('--arcface-scale <number>', 'scale of the ArcFace head of an adapter file (onnx)', readNumber)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action((adapter, target, options) => exportAdapter(adapter, target, options));

  adapters
    .command('merge <adapter> <file>')
    .description("write the base model's weights with the adapter merged into them (safetensors)")
    .option('--run <id>', 'run whose adapter is meant, when several runs made this file')
    .option('--base <id>', 'base model, if not the one whose hash the adapter holds')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action((adapter, file, options) => exportAdapter(adapter, file, { ...options, format: 'weights' }));

  adapters
    .command('import <folder>')
    .description('turn a folder that Hugging Face PEFT or Anneal wrote into an adapter file')
    .requiredOption('--base <id>', 'base model that the adapter was trained on')
    .requiredOption('--out <file>', 'adapter file to write')
    .option('--bn-scales <file>', scalesHelp)
    .option('--classes <list>', 'class names in the order of the head, separated by commas', readList)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action((folder, options) => importAdapter(folder, options));
}
