import { Alert, Blockquote, Box, SimpleGrid, Stack, Text, Title } from '@mantine/core';
import { IconAlertTriangle } from '@tabler/icons-react';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { Disclosure } from '../components/disclosure.tsx';
import { SettingsList } from '../components/settings-list.tsx';
import { formatDateTime, formatHash } from '../format/format.ts';
import { LetterBase } from './letter-base.tsx';
import { LetterData } from './letter-data.tsx';
import { LetterDifferences } from './letter-differences.tsx';
import { LetterLeaving } from './letter-leaving.tsx';
import { LetterPart, Sentences } from './letter-part.tsx';

/** A run that nobody gave a title. */
export const titleOf = ({ title, askedBy }: Pick<ApprovalCard, 'title' | 'askedBy'>): string =>
  title || `A run of ${askedBy}`;

/** What a run asks of this site: who asks, for what, with which data, what leaves, what protects it, what stays. */
export function Letter({ card }: { card: ApprovalCard }) {
  return (
    <Stack component="article" gap="xl" aria-label="Letter">
      <div>
        <Title order={2} size="h3" style={{ overflowWrap: 'anywhere' }}>
          {titleOf(card)}
        </Title>
        <Text c="dimmed">
          {card.askedBy} asked this site on {formatDateTime(card.askedAt)}. Nothing is trained or sent before
          somebody here has approved it.
        </Text>
        <Text mt="xs">
          Purpose: <b>{card.purpose}</b>
        </Text>
        {card.note !== '' && (
          <Blockquote mt="md" p="md" cite={`The coordinator of ${card.askedBy}`} color="brand">
            <Text style={{ whiteSpace: 'pre-wrap', overflowWrap: 'anywhere' }}>{card.note}</Text>
          </Blockquote>
        )}
      </div>
      {card.beyondEarlier.length > 0 && <LetterDifferences rows={card.beyondEarlier} />}
      <LetterData card={card} />
      <LetterBase base={card.base} />
      <LetterLeaving card={card} />
      <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="xl">
        <LetterPart title="What protects it, and what does not">
          <Sentences entries={card.protection} />
        </LetterPart>
        <LetterPart title="What stays here">
          <Sentences entries={card.stays} />
        </LetterPart>
      </SimpleGrid>
      <LetterPart title="How it trains">
        <Text size="sm">{card.evaluations}</Text>
        <Box mt="xs">
          <Disclosure label="All settings of the run">
            {() => (
              <Box mt="sm">
                <SettingsList settings={card.settings} />
              </Box>
            )}
          </Disclosure>
        </Box>
      </LetterPart>
      <LetterPart title="What an approval covers">
        <Text size="sm">
          This run only, exactly as it is written here: if anything of it changes, or another run of the same
          begins, you are asked again. Or later runs of the study as well, within limits that you set.
        </Text>
        <Text size="xs" c="dimmed" mt={4} title={card.contractSha256}>
          Contract <span className="code">{formatHash(card.contractSha256)}</span>
        </Text>
      </LetterPart>
      {card.consentNotes.length > 0 && (
        <Alert color="yellow" icon={<IconAlertTriangle aria-hidden />} title="Consents behind this run">
          <Sentences entries={card.consentNotes} />
        </Alert>
      )}
      {card.cannotTrain !== null && (
        <Alert
          color="yellow"
          icon={<IconAlertTriangle aria-hidden />}
          title="Today this site would not train"
        >
          <Text size="sm">
            {card.cannotTrain.message} {card.cannotTrain.action}
          </Text>
        </Alert>
      )}
    </Stack>
  );
}
