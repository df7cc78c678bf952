import { Alert, List, Stack, Text } from '@mantine/core';
import { IconAlertTriangle } from '@tabler/icons-react';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { describeAlignment, originalAlignment } from '../../core/config/alignment.ts';
import { describeLeak, leakReasons } from '../../core/config/leak-report.ts';
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
        <Fact label="How a face is cut out">{describeAlignment(base.alignment ?? originalAlignment)}</Fact>
        <Fact label="Identity">
          <span className="code" title={base.sha256}>
            {formatHash(base.sha256)}
          </span>
        </Fact>
      </Stack>
      <Leak leak={base.leak} />
    </LetterPart>
  );
}

/** How much of a face its numbers give away, as measured here with generated faces. */
function Leak({ leak }: { leak: Base['leak'] }) {
  if (leak === null) {
    return (
      <Text size="sm" mt="xs">
        How well a face can be rebuilt from these numbers is being measured. It is shown here in a few
        minutes.
      </Text>
    );
  }
  const reasons = leakReasons(leak);
  const figures = describeLeak(leak);
  if (reasons.length === 0) {
    return (
      <Text size="sm" mt="xs">
        {figures}
      </Text>
    );
  }
  return (
    <Alert
      mt="sm"
      color="red"
      icon={<IconAlertTriangle aria-hidden />}
      title="A photograph can be rebuilt from what this network computes"
    >
      <Text size="sm">{figures}</Text>
      <List size="sm" mt={4} withPadding>
        {reasons.map((reason) => (
          <List.Item key={reason}>{reason}</List.Item>
        ))}
      </List>
    </Alert>
  );
}

function placeOf({ isBuiltIn, importedAt }: Base): string {
  if (isBuiltIn) return 'built into Anneal';
  return importedAt === null ? 'not installed any more' : `imported here on ${formatDate(importedAt)}`;
}
