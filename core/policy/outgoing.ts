/** The last look at a file before it leaves: opened again, and held against what the contract says of its round. */
import type { WirePrecision } from '../config/round-options.ts';
import { parseSafetensors } from '../lora/safetensors.ts';
import { AppError } from '../shared/errors.ts';
import { elementCount } from '../shared/tensor.ts';
import { nameOfScales, typeOf } from '../strategy/wire/numbers.ts';
import { type RoundLeaves, slackBytes } from './leaves.ts';

/**
 * @param bytes as they are on the disk
 * @throws AppError CONTRACT_BROKEN naming what the contract does not list; MODEL_FILE_INVALID for no such file
 */
export function checkOutgoing(bytes: Uint8Array, round: RoundLeaves, precision: WirePrecision): void {
  if (bytes.length > round.bytes + slackBytes)
    throw withheld(`it has ${bytes.length} bytes; the contract says ${round.bytes}`);
  let values = 0;
  for (const { name, dims, dtype } of parseSafetensors(bytes, 'the update').entries.values()) {
    if (precision === 'int8' && name === nameOfScales && dtype === 'F32') continue;
    const most = round.tensors.get(name);
    if (most === undefined) throw withheld(`it holds "${name}", which the contract does not list`);
    if (dtype !== typeOf[precision]) throw withheld(`"${name}" has numbers of type ${dtype}`);
    if (dims.length !== most.length || dims.some((size, axis) => size > most[axis]!))
      throw withheld(`"${name}" is larger than the contract says`);
    values += elementCount(dims);
  }
  if (values > round.values) throw withheld(`it holds ${values} numbers; the contract says ${round.values}`);
}

const withheld = (what: string) =>
  new AppError('CONTRACT_BROKEN', `This site withheld its update: ${what}.`, {
    action: 'Nothing left this site. Report this, and attach the log file from the data folder.',
  });
