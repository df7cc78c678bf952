/** What travels between sites and the coordinator, as files. docs/protocol.md describes the formats. */
export { fileSizeBytes, fileValueCount } from './coded-file.ts';
export {
  type DecodeGlobalOptions,
  decodeFrozenBase,
  decodeGlobalState,
  encodeFrozenBase,
  encodeGlobalState,
} from './global-state.ts';
export {
  type DecodeUpdateOptions,
  decodeUpdate,
  type EncodedUpdate,
  type EncodeUpdateOptions,
  encodeUpdate,
} from './update.ts';
export {
  frozenBaseForm,
  globalForm,
  isPlainFile,
  type Residual,
  updateForm,
  type WireBase,
  type WireConfig,
  type WireContext,
  type WirePlan,
} from './wire-context.ts';
