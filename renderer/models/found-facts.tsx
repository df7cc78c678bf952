import { Stack } from '@mantine/core';
import type { ModelInspection } from '../../core/api/contract.ts';
import { Fact } from '../components/figure.tsx';
import { formatCompact, formatCount } from '../format/format.ts';
import { adaptableWords, alignmentWords, channelWords, foundPixels, inputWords } from './model-words.ts';

interface FoundFactsProps {
  finding: ModelInspection;
  /** The person has said how pixels are normalised. */
  isGiven: boolean;
}

/** What a file says of itself, and what is assumed. */
export function FoundFacts({ finding, isGiven }: FoundFactsProps) {
  const { model, format } = finding;
  if (model === null) return null;
  const pixels = foundPixels(model, format, isGiven);
  return (
    <Stack gap={4} maw={720}>
      <Fact label="Takes">{inputWords(model.inputSize)}</Fact>
      <Fact label="How a face is cut out">
        {alignmentWords(model.alignment, model.alignmentAssumed ? 'assumed' : 'given')}
      </Fact>
      <Fact label="What is done to pixels">{pixels ?? 'the file does not say'}</Fact>
      {model.preprocessing && <Fact label="Order of the colours">{channelWords(model.preprocessing)}</Fact>}
      <Fact label="Gives">{formatCount(model.embeddingSize)} numbers for a face</Fact>
      <Fact label="Weights">{formatCompact(model.parameters)}</Fact>
      <Fact label="Adapted by default">{adaptableWords(model.adaptable)}</Fact>
      {model.sha256 !== null && (
        <Fact label="Identity">
          <span className="code">{model.sha256}</span>
          {finding.isWanted === true && ' – the one that the run asks for'}
        </Fact>
      )}
      {finding.installedAs !== null && <Fact label="Here already">as “{finding.installedAs}”</Fact>}
    </Stack>
  );
}
