import { Button, Card, Center, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { type FormEvent, type ReactNode, useState } from 'react';
import type { Me } from '../../core/api/contract.ts';
import { api } from '../api/client.ts';
import { useBecome } from '../api/me.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Logo } from '../components/logo.tsx';

/** What stands before the screens until somebody is known. */
export function SignInScreen({ me }: { me: Me }) {
  const [isOther, setOther] = useState(false);
  if (me.state === 'must-change') return <ChoosePassword me={me} />;
  if (me.state === 'locked' && !isOther) return <Unlock me={me} onOther={() => setOther(true)} />;
  return <SignIn me={me} />;
}

interface GateProps {
  title: string;
  children: ReactNode;
  error: unknown;
  onSubmit: () => void;
}

function Gate({ title, children, error, onSubmit }: GateProps) {
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onSubmit();
  };
  return (
    <Center mih="100vh" p="md" component="main">
      <Card w={420} padding="xl" component="form" onSubmit={submit}>
        <Stack>
          <Logo />
          <Title order={1} size="h3">
            {title}
          </Title>
          {error != null && <ErrorPanel error={error} />}
          {children}
        </Stack>
      </Card>
    </Center>
  );
}

function SignIn({ me }: { me: Me }) {
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const become = useBecome();
  const signIn = useMutation({
    mutationFn: () => api.people.signIn.mutate({ name, password }),
    onSuccess: become,
    networkMode: 'always',
  });
  // Forgets a session that has ended, so that the owner of the machine is asked about again.
  const goOn = useMutation({ mutationFn: () => api.people.signOut.mutate(), onSuccess: become });
  return (
    <Gate title="Sign in" error={signIn.error} onSubmit={() => signIn.mutate()}>
      <TextInput
        label="Name"
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        autoFocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <Secret label="Password" autoComplete="current-password" value={password} onChange={setPassword} />
      <Button type="submit" loading={signIn.isPending} disabled={name.trim() === '' || password === ''}>
        Sign in
      </Button>
      {me.owner !== null && (
        <Button variant="subtle" loading={goOn.isPending} onClick={() => goOn.mutate()}>
          Go on as {me.owner}
        </Button>
      )}
      <Text c="dimmed" size="sm">
        An administrator of this installation adds users and hands out one-time passwords.
      </Text>
    </Gate>
  );
}

function Unlock({ me, onOther }: { me: Me; onOther: () => void }) {
  const [password, setPassword] = useState('');
  const become = useBecome();
  const unlock = useMutation({
    mutationFn: () => api.people.unlock.mutate({ password }),
    onSuccess: become,
    networkMode: 'always',
  });
  return (
    <Gate title="Locked" error={unlock.error} onSubmit={() => unlock.mutate()}>
      <Text size="sm">
        {me.displayName} ({me.actor}) is signed in. Training goes on meanwhile.
      </Text>
      <Secret
        label="Password"
        autoComplete="current-password"
        autoFocus
        value={password}
        onChange={setPassword}
      />
      <Button type="submit" loading={unlock.isPending} disabled={password === ''}>
        Unlock
      </Button>
      <Button variant="subtle" onClick={onOther}>
        Somebody else signs in
      </Button>
    </Gate>
  );
}

function ChoosePassword({ me }: { me: Me }) {
  const become = useBecome();
  const leave = useMutation({ mutationFn: () => api.people.signOut.mutate(), onSuccess: become });
  const [error, setError] = useState<unknown>(null);
  const form = usePasswordChange({ onChanged: become, onError: setError });
  return (
    <Gate title="Choose a password" error={error} onSubmit={form.submit}>
      <Text size="sm">
        {me.displayName}, the one-time password was for signing in once. From now on you use one that only you
        know.
      </Text>
      {form.fields}
      <Button type="submit" loading={form.isPending} disabled={!form.isComplete}>
        Use this password
      </Button>
      <Button variant="subtle" onClick={() => leave.mutate()}>
        Sign out
      </Button>
    </Gate>
  );
}

interface PasswordChangeOptions {
  onChanged: (me: Me) => void;
  onError: (error: unknown) => void;
}

/** The fields of a change of one's own password. */
export function usePasswordChange({ onChanged, onError }: PasswordChangeOptions) {
  const [current, setCurrent] = useState('');
  const [next, setNext] = useState('');
  const [again, setAgain] = useState('');
  const change = useMutation({
    mutationFn: () => api.people.changePassword.mutate({ current, next }),
    onSuccess: onChanged,
    onError,
    networkMode: 'always',
  });
  const differs = again !== '' && again !== next;
  const fields = (
    <>
      <Secret
        label="Present password"
        autoComplete="current-password"
        value={current}
        onChange={setCurrent}
      />
      <Secret
        label="New password"
        description="At least 12 characters. Four words that do not belong together are easy to remember and hard to guess."
        autoComplete="new-password"
        value={next}
        onChange={setNext}
      />
      <Secret
        label="New password again"
        autoComplete="new-password"
        value={again}
        onChange={setAgain}
        {...(differs && { error: 'This is not the same.' })}
      />
    </>
  );
  const isComplete = current !== '' && next !== '' && again === next;
  return { fields, isComplete, isPending: change.isPending, submit: () => isComplete && change.mutate() };
}

interface SecretProps {
  label: string;
  description?: string;
  autoComplete: 'current-password' | 'new-password';
  autoFocus?: boolean;
  value: string;
  onChange: (value: string) => void;
  error?: string;
}

function Secret({ onChange, ...field }: SecretProps) {
  return <PasswordInput {...field} onChange={(event) => onChange(event.currentTarget.value)} />;
}
