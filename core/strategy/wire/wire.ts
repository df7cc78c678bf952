/** What travels between sites and the coordinator, as files. docs/protocol.md describes the formats. */
export {
  type DecodeGlobalOptions,
  decodeFoundation,
  decodeGlobalState,
  encodeFoundation,
  encodeGlobalState,
  foundationSizeBytes,
  foundationValueCount,
  globalStateSizeBytes,
  globalStateValueCount,
} from './global-state.ts';
export {
  type DecodeUpdateOptions,
  decodeUpdate,
  type EncodedUpdate,
  type EncodeUpdateOptions,
  encodeUpdate,
  updateSizeBytes,
  updateValueCount,
} from './update.ts';
export type { Residual, WireBase, WireConfig, WireContext, WirePlan } from './wire-context.ts';
