import {
  Anchor,
  Box,
  Card,
  Group,
  SimpleGrid,
  Stack,
  Text,
  ThemeIcon,
  Title,
  UnstyledButton,
} from '@mantine/core';
import { type Icon, IconBuildingHospital, IconPlayerPlay, IconTopologyStar3 } from '@tabler/icons-react';
import { useState } from 'react';
import type { AgentStatus } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { DemoPanel } from '../components/demo-panel.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Logo } from '../components/logo.tsx';
import { SchemeToggle } from '../components/scheme-toggle.tsx';
import { CoordinatorSetup, JoinSetup } from './first-run-forms.tsx';
import { ModelsScreen } from './models.tsx';

type Choice = 'site' | 'coordinator' | 'models';

/** What a fresh installation asks: what it shall be. */
export function FirstRunScreen({ status }: { status: AgentStatus }) {
  const [choice, setChoice] = useState<Choice | null>(null);
  /** On the screen of the networks. */
  const [isAdding, setAdding] = useState(false);
  return (
    <Box p="xl" component="main" mih="100vh">
      <Group justify="space-between" maw={1040} mx="auto">
        <Logo size={32} />
        <SchemeToggle />
      </Group>
      <Stack
        maw={choice === null || choice === 'models' ? 1040 : 620}
        mx="auto"
        mt={{ base: 'xl', md: 64 }}
        gap="xl"
      >
        {choice === null && <Choices demo={status.demo} onChoose={setChoice} />}
        {choice === 'models' && (
          <ModelsScreen isAdding={isAdding} onAdding={setAdding} onBack={() => setChoice(null)} />
        )}
        {choice === 'site' && <JoinSetup onBack={() => setChoice(null)} />}
        {choice === 'coordinator' && <CoordinatorSetup onBack={() => setChoice(null)} />}
      </Stack>
    </Box>
  );
}

interface ChoicesProps {
  demo: AgentStatus['demo'];
  onChoose: (choice: Choice) => void;
}

function Choices({ demo, onChoose }: ChoicesProps) {
  const start = useAction(() => api.setup.demo.mutate(), { changes: ['status'], ownErrors: true });
  return (
    <>
      <div>
        <Title order={1}>Welcome to Anneal</Title>
        <Text c="dimmed" size="lg" mt="xs" maw={720}>
          Hospitals improve one shared face model together. Photographs never leave the hospital that took
          them.
        </Text>
      </div>
      <Title order={2} size="h4">
        What is this installation for?
      </Title>
      <SimpleGrid cols={{ base: 1, sm: 3 }} spacing="lg">
        <ChoiceCard
          icon={IconBuildingHospital}
          title="A hospital site"
          text="Join a federation with the invitation that your coordinator sent you, then add your images and consents."
          onClick={() => onChoose('site')}
        />
        <ChoiceCard
          icon={IconTopologyStar3}
          title="The coordinator"
          text="Start a federation: invite hospitals, plan training runs and watch them. No photographs are kept here."
          onClick={() => onChoose('coordinator')}
        />
        {(demo === null || demo.state === 'finished') && (
          <ChoiceCard
            icon={IconPlayerPlay}
            title={demo === null ? 'Try the demo' : 'Try the demo again'}
            text="One coordinator and three pretend hospitals on this machine, with drawn cartoon faces. Takes a few minutes."
            busy={start.isPending}
            onClick={() => start.mutate(undefined)}
          />
        )}
      </SimpleGrid>
      {start.isError && <ErrorPanel error={start.error} />}
      <Text size="sm" c="dimmed">
        Training starts from the network that comes with Anneal, face-resnet-128, unless a run names another
        one.{' '}
        <Anchor component="button" type="button" onClick={() => onChoose('models')}>
          Use another network…
        </Anchor>
      </Text>
      {demo && <DemoPanel demo={demo} />}
    </>
  );
}

interface ChoiceCardProps {
  icon: Icon;
  title: string;
  text: string;
  busy?: boolean;
  onClick: () => void;
}

function ChoiceCard({ icon: Image, title, text, busy, onClick }: ChoiceCardProps) {
  return (
    <UnstyledButton onClick={onClick} disabled={busy ?? false} aria-busy={busy} className="choice">
      <Card h="100%" padding="xl">
        <ThemeIcon size={56} radius="md" variant="light" mb="lg">
          <Image size={30} stroke={1.6} aria-hidden />
        </ThemeIcon>
        <Text fw={650} fz="lg" mb={6}>
          {busy ? 'Starting…' : title}
        </Text>
        <Text c="dimmed" size="sm">
          {text}
        </Text>
      </Card>
    </UnstyledButton>
  );
}
