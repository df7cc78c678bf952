/** Folders of models that Anneal does not open say how the model comes in nevertheless. */
import { cpSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { exportAdvice } from '../../core/models/export-advice.ts';
import { findModelSource } from '../../core/models/model-formats.ts';
import { openVitFolder } from '../../core/models/vit-folder.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/vit/${name}`, import.meta.url));
const options = { id: 'model', licence: 'none' };

function changed(source: string, change: (config: Record<string, unknown>) => void) {
  const place = temporaryFolder();
  const folder = path.join(place.dir, 'model');
  cpSync(fixture(source), folder, { recursive: true });
  const file = path.join(folder, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  change(config);
  writeFileSync(file, JSON.stringify(config));
  return { folder, [Symbol.dispose]: () => place[Symbol.dispose]() };
}

describe('a folder of another family', () => {
  test.each([
    ['siglip2', 'transformers.Siglip2VisionModel'],
    ['siglip_vision_model', 'transformers.SiglipVisionModel'],
    ['beit', 'transformers.BeitModel'],
    ['swin', 'transformers.SwinModel'],
    ['dinov3_vit', 'transformers.DINOv3ViTModel'],
    ['of tomorrow', 'transformers.AutoModel'],
  ])('%s is told how to come as ONNX', async (family, model) => {
    using place = changed('vit-classifier', (config) => {
      config['model_type'] = family;
    });

    await expect(openVitFolder(place.folder, options)).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
      message: expect.stringContaining(`type "${family}"`),
      action: expect.stringMatching(
        new RegExp(`Export it to ONNX.*${model.replace('.', '\\.')}.*from_pretrained.*torch\\.onnx\\.export`),
      ),
    });
  });

  test('the masked autoencoder’s encoder is a ViT', async () => {
    using place = changed('vit-classifier', (config) => {
      config['model_type'] = 'vit_mae';
    });

    const [own, other] = await Promise.all(
      [fixture('vit-classifier'), place.folder].map((folder) => openVitFolder(folder, options)),
    );

    expect(own!.sha256).toBe(other!.sha256);
  });
});

test('weights in a format that can hold programs are to be saved as safetensors', async () => {
  using place = changed('vit-classifier', () => {});
  renameSync(path.join(place.folder, 'model.safetensors'), path.join(place.folder, 'pytorch_model.bin'));

  const wanted = {
    code: 'MODEL_FILE_INVALID',
    message: expect.stringContaining('pytorch_model.bin'),
    action: expect.stringContaining('safe_serialization=True'),
  };
  await expect(findModelSource(place.folder)).rejects.toMatchObject(wanted);
  await expect(openVitFolder(place.folder, options)).rejects.toMatchObject(wanted);
  await expect(findModelSource(path.join(place.folder, 'pytorch_model.bin'))).rejects.toMatchObject({
    action: expect.stringContaining('torch.onnx.export'),
  });
});

test('a name from a stranger’s file does not get into the command as it is', () => {
  const advice = exportAdvice({ architecture: `x'); import os; os.system('rm` });

  expect(advice).toContain("timm.create_model('x____import_os__os.system__rm'");
});
