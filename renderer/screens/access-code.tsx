import { Alert, Button, Card, Center, Stack, Text, TextInput, Title } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { openSession } from '../api/session.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Logo } from '../components/logo.tsx';

/** In a browser: the code that `anneal serve` printed, once per start of the agent. */
export function AccessCodeScreen() {
  const [code, setCode] = useState('');
  const queries = useQueryClient();
  const signIn = useMutation({
    mutationFn: () => openSession(code.trim()),
    // What was asked without a session has failed; ask it again.
    onSuccess: (accepted) => accepted && queries.resetQueries(),
    networkMode: 'always',
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    signIn.mutate();
  };
  return (
    <Center mih="100vh" p="md" component="main">
      <Card w={420} padding="xl" component="form" onSubmit={submit}>
        <Stack>
          <Logo />
          <div>
            <Title order={1} size="h3">
              Access code
            </Title>
            <Text c="dimmed" size="sm" mt={4}>
              Anneal printed a code in the terminal when it started. It keeps other programs and people on
              this machine out.
            </Text>
          </div>
          <TextInput
            label="Code"
            placeholder="ABCDE-FGHJK"
            value={code}
            onChange={(event) => setCode(event.currentTarget.value)}
            autoComplete="off"
            spellCheck={false}
            data-autofocus
            autoFocus
            styles={{ input: { fontFamily: 'var(--mantine-font-family-monospace)', letterSpacing: 1 } }}
          />
          {signIn.data === false && (
            <Alert color="red" role="alert" title="That is not the access code.">
              Type the newest code that Anneal printed; after ten tries, wait a minute.
            </Alert>
          )}
          {signIn.isError && <ErrorPanel error={signIn.error} />}
          <Button type="submit" loading={signIn.isPending} disabled={code.trim() === ''}>
            Continue
          </Button>
        </Stack>
      </Card>
    </Center>
  );
}
