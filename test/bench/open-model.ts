/** Opens the base model of a prepared benchmark as the product does. */
import { dirname } from 'node:path';
import type { BaseModel } from '../../core/models/base-model.ts';
import { loadFaceResnet128 } from '../../core/models/face-resnet-128.ts';
import { openVitFolder } from '../../core/models/vit-folder.ts';
import type { Description } from './description.ts';

export function openModel({ kind, modelFile, network }: Description): Promise<BaseModel> {
  if (kind === 'face-resnet') return loadFaceResnet128();
  return openVitFolder(dirname(modelFile), { id: network, licence: 'Apache-2.0' });
}
