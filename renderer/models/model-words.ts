/** Base models as a person reads them. */
import type { Adaptable, FoundModel, ModelRow } from '../../core/api/contract.ts';
import { type Alignment, describeAlignment } from '../../core/config/alignment.ts';
import {
  describeChannelOrder,
  describeNormalisation,
  type Preprocessing,
} from '../../core/config/preprocessing.ts';
import type { ModelProgress } from '../api/live-progress.ts';
import { formatCount, formatPercent } from '../format/format.ts';

const pixelSources: Record<ModelRow['pixels']['source'], string> = {
  'built-in': '',
  given: 'as given at the import',
  recognised: 'recognised from the file’s first nodes',
  folder: 'from the files of the folder',
  earlier: 'by an earlier version of Anneal',
};

const withSource = (text: string, source: string) => (source === '' ? text : `${text}, ${source}`);

export const inputWords = (side: number): string => `${formatCount(side)} × ${formatCount(side)} pixels`;

export const alignmentWords = (template: Alignment, source: ModelRow['alignment']['source']): string =>
  withSource(
    describeAlignment(template),
    { 'built-in': '', given: 'as given at the import', assumed: 'assumed' }[source],
  );

export const pixelWords = ({ normalisation, preprocessing, source }: ModelRow['pixels']): string =>
  withSource(describeNormalisation(normalisation, preprocessing), pixelSources[source]);

export function channelWords({ channelOrder, channelSource }: Preprocessing): string {
  const source = { given: 'as given', recognised: 'recognised by the means', assumed: 'assumed' };
  return `${describeChannelOrder(channelOrder)}, ${source[channelSource]}`;
}

/** "49 of 52 layers (94 %)" */
export function adaptableWords({ layers, byDefault }: Adaptable): string {
  const share = layers === 0 ? 0 : byDefault / layers;
  return `${formatCount(byDefault)} of ${formatCount(layers)} layers (${formatPercent(share, 0)})`;
}

/** What of a file is known before its import. */
export const foundPixels = (
  { normalisation, preprocessing }: FoundModel,
  format: 'vit' | 'onnx',
  isGiven: boolean,
): string | null =>
  normalisation === null
    ? null
    : pixelWords({
        ...{ normalisation, preprocessing },
        source: preprocessing?.source ?? (format === 'vit' && !isGiven ? 'folder' : 'given'),
      });

const steps: Record<ModelProgress['step'], string> = {
  copying: 'Copying the file',
  opening: 'Opening the network',
  'drawing faces': 'Drawing faces to look at',
  'computing embeddings': 'Computing what the network makes of them',
  'rebuilding faces': 'Measuring how well faces can be rebuilt from that',
};

export const stepWords = (progress: ModelProgress | null): string =>
  progress === null ? 'Reading the file' : steps[progress.step];

/** Of the whole import, 0…1: the measurement takes most of it. */
export function importShare(progress: ModelProgress | null): number {
  if (progress === null) return 0;
  if (progress.step === 'copying') return 0.1 * progress.share;
  return progress.step === 'opening' ? 0.1 : 0.15 + 0.85 * progress.share;
}
