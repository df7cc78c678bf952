/** What to do with a model that Anneal does not open from its folder: any network can come as ONNX, and here is how. */

/** The class of transformers that holds a family's image encoder, where the automatic one would load more than that. */
const encoders: Readonly<Record<string, string>> = {
  clip: 'CLIPVisionModel',
  clip_vision_model: 'CLIPVisionModel',
  siglip: 'SiglipVisionModel',
  siglip_vision_model: 'SiglipVisionModel',
  siglip2: 'Siglip2VisionModel',
  beit: 'BeitModel',
  swin: 'SwinModel',
  swinv2: 'Swinv2Model',
  dinov3_vit: 'DINOv3ViTModel',
};

export interface ModelKind {
  /** `model_type` of transformers. */
  readonly family?: string | undefined;
  /** Name in timm. */
  readonly architecture?: string | undefined;
  /** Side of its images in pixels. */
  readonly imageSize?: number | undefined;
}

/** One sentence with the command, for the advice of an error. */
export function exportAdvice({ family, architecture, imageSize = 224 }: ModelKind): string {
  const load =
    architecture === undefined
      ? `transformers; m = transformers.${encoders[family ?? ''] ?? 'AutoModel'}.from_pretrained('FOLDER')`
      : `timm; m = timm.create_model('${plain(architecture)}', pretrained=True, num_classes=0)`;
  const names = architecture === undefined ? "['tokens', 'embedding']" : "['embedding']";
  const code =
    `import torch, ${load}; torch.onnx.export(m.eval(), torch.zeros(1, 3, ${imageSize}, ${imageSize}), ` +
    `'model.onnx', output_names=${names}, opset_version=17, dynamo=False)`;
  return `Export it to ONNX and import that file: python -c "${code}"`;
}

/** The name comes from a file of a stranger and goes into a command. */
const plain = (name: string): string => name.replace(/[^\w.-]/g, '_').slice(0, 100);
