import { Stack } from '@mantine/core';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { Fact } from '../components/figure.tsx';
import { formatCompact, formatCount, formatDate, formatHash } from '../format/format.ts';
import { LetterPart } from './letter-part.tsx';

type Base = ApprovalCard['base'];

/** The network that the run starts from, and how it came here. */
export function LetterBase({ base }: { base: Base }) {
  return (
    <LetterPart title="Base model">
      <Stack gap={4} maw={620}>
        <Fact label="Name">{base.name}</Fact>
        <Fact label="Licence or origin, as the coordinator says">{base.origin || 'not said'}</Fact>
        <Fact label="At this site">{placeOf(base)}</Fact>
        <Fact label="Size">{formatCompact(base.weights)} weights</Fact>
        <Fact label="What it makes of a face">
          {base.inputSize} × {base.inputSize} pixels become {formatCount(base.embeddingSize)} numbers
        </Fact>
        <Fact label="Identity">
          <span className="code" title={base.sha256}>
            {formatHash(base.sha256)}
          </span>
        </Fact>
      </Stack>
    </LetterPart>
  );
}

function placeOf({ isBuiltIn, importedAt }: Base): string {
  if (isBuiltIn) return 'built into Anneal';
  return importedAt === null ? 'not installed any more' : `imported here on ${formatDate(importedAt)}`;
}
