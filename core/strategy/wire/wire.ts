/** What travels between sites and the coordinator, as files. docs/protocol.md describes the formats. */
export { fileSizeBytes, fileValueCount } from './coded-file.ts';
export {
  decodeFrozenBase,
  decodeGlobalState,
  encodeFrozenBase,
  encodeGlobalState,
} from './global-state.ts';
export {
  decodeUpdate,
  type EncodedUpdate,
  encodeUpdate,
} from './update.ts';
export {
  frozenBaseForm,
  globalForm,
  isPlainFile,
  type Residual,
  updateForm,
  type WireBase,
  type WireContext,
} from './wire-context.ts';
