import { Anchor, Button, Group, Stack } from '@mantine/core';
import { IconArrowLeft, IconRoute, IconUserOff } from '@tabler/icons-react';
import { useState } from 'react';
import { Link } from 'wouter';
import type { SubjectDetail } from '../../core/api/subject-contract.ts';
import { useSubject } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page } from '../components/page.tsx';
import { formatPlural } from '../format/format.ts';
import { SubjectConsents } from '../subject/consents.tsx';
import { CorrectionsSection } from '../subject/corrections.tsx';
import { SubjectImages } from '../subject/images.tsx';
import { SubjectRights } from '../subject/rights.tsx';
import { ConsentTimeline } from '../subject/timeline.tsx';
import { TraceDrawer } from './trace-drawer.tsx';

/** Everything about one subject: what it agreed to, what is here of it, and what people did. */
export function SubjectScreen({ pseudonym }: { pseudonym: string | null }) {
  if (pseudonym === null) return <NoSubject />;
  return <Known key={pseudonym} pseudonym={pseudonym} />;
}

function Known({ pseudonym }: { pseudonym: string }) {
  const subject = useSubject(pseudonym);
  return (
    <Stack gap="md">
      <BackLink />
      <Loaded query={subject}>{(detail) => <Shown subject={detail} />}</Loaded>
    </Stack>
  );
}

function Shown({ subject }: { subject: SubjectDetail }) {
  const [isTracing, setTracing] = useState(false);
  const { pseudonym } = subject;
  return (
    <Page title={pseudonym} subtitle={countsOf(subject)}>
      <Group gap="xs">
        <Button
          variant="default"
          leftSection={<IconRoute size={16} aria-hidden />}
          onClick={() => setTracing(true)}
        >
          Which runs?
        </Button>
        <SubjectRights subject={subject} />
      </Group>
      <SubjectConsents subject={subject} />
      <SubjectImages subject={subject} />
      <ConsentTimeline subject={subject} />
      {subject.corrections.length > 0 && <CorrectionsSection corrections={subject.corrections} />}
      {isTracing && <TraceDrawer pseudonym={pseudonym} onClose={() => setTracing(false)} />}
    </Page>
  );
}

function countsOf({ images: { train, test, setAside } }: SubjectDetail): string {
  if (train + test + setAside === 0) return 'No images';
  return [
    train > 0 && `${formatPlural(train, 'image')} for training`,
    test > 0 && `${formatPlural(test, 'image')} held out for checking`,
    setAside > 0 && `${formatPlural(setAside, 'image')} set aside`,
  ]
    .filter((part) => part !== false)
    .join(', ');
}

function BackLink() {
  return (
    <Anchor component={Link} href="/dataset" size="sm">
      <Group gap={4} component="span">
        <IconArrowLeft size={15} aria-hidden />
        Images and consent
      </Group>
    </Anchor>
  );
}

function NoSubject() {
  return (
    <Stack gap="md">
      <BackLink />
      <EmptyState icon={IconUserOff} title="No subject">
        This address names no subject. Choose one in the list.
      </EmptyState>
    </Stack>
  );
}
