import {
  Button,
  Card,
  FileButton,
  Group,
  NumberInput,
  Stack,
  Text,
  Textarea,
  TextInput,
  Title,
} from '@mantine/core';
import { useForm } from '@mantine/form';
import { IconArrowLeft, IconFileImport } from '@tabler/icons-react';
import type { ReactNode } from 'react';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ErrorPanel } from '../components/error-panel.tsx';

interface SetupProps {
  onBack: () => void;
}

/** Joins a federation as a hospital site. */
export function JoinSetup({ onBack }: SetupProps) {
  const form = useForm({
    initialValues: { invitation: '', name: '' },
    validate: {
      invitation: (text) =>
        text.trim() === '' ? 'Paste the invitation, or open the file that you received.' : null,
    },
  });
  const join = useAction(
    ({ invitation, name }: typeof form.values) =>
      api.setup.join.mutate({
        invitation: invitation.trim(),
        ...(name.trim() !== '' && { name: name.trim() }),
      }),
    { changes: ['status', 'site'], ownErrors: true },
  );
  const readFile = async (file: File | null) => {
    if (file) form.setFieldValue('invitation', (await file.text()).trim());
  };
  return (
    <SetupCard
      title="Join a federation"
      text="Your coordinator sent you an invitation: a block of text, or a file that holds it. It works once."
      onBack={onBack}
      onSubmit={form.onSubmit((values) => join.mutate(values))}
      submitLabel="Join"
      busy={join.isPending}
      error={join.error}
    >
      <Textarea
        label="Invitation"
        placeholder="Paste the whole text here"
        autosize
        minRows={4}
        maxRows={8}
        spellCheck={false}
        data-autofocus
        styles={{ input: { fontFamily: 'var(--mantine-font-family-monospace)', fontSize: 13 } }}
        {...form.getInputProps('invitation')}
      />
      <Group>
        <FileButton
          onChange={(file) => void readFile(file)}
          accept=".txt,.json,.anneal-invitation,text/plain"
        >
          {(button) => (
            <Button {...button} variant="default" leftSection={<IconFileImport size={16} aria-hidden />}>
              Open invitation file…
            </Button>
          )}
        </FileButton>
      </Group>
      <TextInput
        label="Name of this site"
        description="Leave it empty to keep the name in the invitation."
        placeholder="University Hospital, Genetics"
        maxLength={80}
        {...form.getInputProps('name')}
      />
    </SetupCard>
  );
}

/** Makes this installation the coordinator of a new federation. */
export function CoordinatorSetup({ onBack }: SetupProps) {
  const form = useForm<{ federation: string; host: string; port: number | string }>({
    initialValues: { federation: '', host: '', port: 8883 },
    validate: {
      federation: (name) =>
        name.trim() === '' ? 'Give the federation a name that the sites will recognise.' : null,
      port: (port) =>
        typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65535
          ? null
          : 'A port is a number between 1 and 65535.',
    },
  });
  const setup = useAction(
    ({ federation, host, port }: typeof form.values) =>
      api.setup.coordinator.mutate({
        federation: federation.trim(),
        port: Number(port),
        ...(host.trim() !== '' && { hosts: [host.trim()] }),
      }),
    { changes: ['status', 'coordinator'], ownErrors: true },
  );
  return (
    <SetupCard
      title="Start a federation"
      text="This machine keeps the shared adapter and merges what the sites send. Sites connect to it; they need no open port themselves."
      onBack={onBack}
      onSubmit={form.onSubmit((values) => setup.mutate(values))}
      submitLabel="Start federation"
      busy={setup.isPending}
      error={setup.error}
    >
      <TextInput
        label="Name of the federation"
        placeholder="Rare Faces Network"
        maxLength={80}
        data-autofocus
        {...form.getInputProps('federation')}
      />
      <TextInput
        label="Address of this machine"
        description="The name or IP address at which the sites reach it. It is part of every invitation. Leave it empty to use the machine’s own name."
        placeholder="anneal.hospital.example"
        maxLength={253}
        spellCheck={false}
        {...form.getInputProps('host')}
      />
      <NumberInput
        label="Port for the sites"
        description="Sites connect here, encrypted. Your IT department has to let it through. The usual port is 8883."
        min={1}
        max={65535}
        allowDecimal={false}
        hideControls
        {...form.getInputProps('port')}
      />
    </SetupCard>
  );
}

interface SetupCardProps {
  title: string;
  text: string;
  onBack: () => void;
  onSubmit: () => void;
  submitLabel: string;
  busy: boolean;
  error: unknown;
  children: ReactNode;
}

function SetupCard(props: SetupCardProps) {
  return (
    <Card
      padding="xl"
      component="form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        props.onSubmit();
      }}
    >
      <Stack>
        <div>
          <Title order={1} size="h3">
            {props.title}
          </Title>
          <Text c="dimmed" size="sm" mt={4}>
            {props.text}
          </Text>
        </div>
        {props.children}
        {props.error != null && <ErrorPanel error={props.error} />}
        <Group justify="space-between" mt="sm">
          <Button
            variant="subtle"
            color="gray"
            leftSection={<IconArrowLeft size={16} aria-hidden />}
            onClick={props.onBack}
          >
            Back
          </Button>
          <Button type="submit" loading={props.busy}>
            {props.submitLabel}
          </Button>
        </Group>
      </Stack>
    </Card>
  );
}
