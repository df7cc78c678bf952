/** What travels between sites and the coordinator, as files. docs/protocol.md describes the formats. */
export {
  type DecodeGlobalOptions,
  decodeFrozenBase,
  decodeGlobalState,
  encodeFrozenBase,
  encodeGlobalState,
  frozenBaseSizeBytes,
  frozenBaseValueCount,
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
