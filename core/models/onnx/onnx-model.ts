/** Any ONNX image-embedding network as a base model. */
import type { BaseModel } from '../base-model.ts';
import type { OnnxDescription, OnnxOptions } from './options.ts';

/**
 * Reads an ONNX file (opset 11 to 22) and its external data.
 * @throws AppError MODEL_FILE_INVALID | OPERATOR_UNSUPPORTED | CONFIG_INVALID
 */
export type OpenOnnxModel = (file: string, options: OnnxOptions) => Promise<BaseModel>;

/**
 * What a file holds, without any setting and even when it cannot be used.
 * @throws AppError MODEL_FILE_INVALID
 */
export type InspectOnnxFile = (file: string) => Promise<OnnxDescription>;
