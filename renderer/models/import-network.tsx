import { Alert, Button, Group, Radio, Stack, Text } from '@mantine/core';
import { IconArrowLeft, IconFileImport } from '@tabler/icons-react';
import { useState } from 'react';
import type { ModelsView } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { recordModelImport } from '../api/live-progress.ts';
import { isAnswered, type ModelAnswers, nameOptionsOf, noAnswers } from '../api/model-answers.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Waiting } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { PathField } from '../components/path-field.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { FoundFacts } from './found-facts.tsx';
import { ImportUnderWay } from './import-under-way.tsx';
import { ModelQuestions, OtherSettings } from './model-questions.tsx';
import { useFindings } from './use-findings.ts';
import { Wanted } from './wanted.tsx';

interface ImportNetworkProps {
  view: ModelsView;
  onClose: () => void;
}

/** Choose the file, look at what Anneal makes of it, import. Only what the file does not say is asked. */
export function ImportNetwork({ view, onClose }: ImportNetworkProps) {
  const [kind, setKind] = useState<'file' | 'folder'>('file');
  const [typed, setTyped] = useState('');
  /** What is looked at; null while the path is being typed. */
  const [path, setPath] = useState<string | null>(null);
  const look = (chosen: string) => setPath(chosen.trim() === '' ? null : chosen.trim());
  const type = (text: string) => {
    setTyped(text);
    setPath(null);
  };
  return (
    <Page
      title="Import a network"
      subtitle="An ONNX file, such as an ArcFace network, or the folder of a vision transformer. It is copied into the data folder of this machine."
      actions={
        <Button
          variant="subtle"
          color="gray"
          leftSection={<IconArrowLeft size={16} aria-hidden />}
          onClick={onClose}
        >
          Back to the list
        </Button>
      }
    >
      {view.wanted && <Wanted wanted={view.wanted} />}
      <Section title="Where it is">
        <form
          noValidate
          onSubmit={(event) => {
            event.preventDefault();
            look(typed);
          }}
        >
          <Stack>
            <Radio.Group
              label="What you have"
              value={kind}
              onChange={(next) => {
                setKind(next as 'file' | 'folder');
                type('');
              }}
            >
              <Group mt={6}>
                <Radio value="file" label="An ONNX file" />
                <Radio value="folder" label="A folder with config.json and model.safetensors" />
              </Group>
            </Radio.Group>
            <PathField
              label={kind === 'file' ? 'ONNX file' : 'Folder'}
              placeholder={kind === 'file' ? '/data/networks/arcface.onnx' : '/data/networks/vit-base'}
              choose={kind === 'file' ? [{ name: 'ONNX network', extensions: ['onnx'] }] : 'folder'}
              value={typed}
              onChange={type}
              onChosen={look}
            />
            <Group justify="flex-end">
              <RoleButton
                needs={['data-manager', 'administrator']}
                type="submit"
                variant={path === null ? 'filled' : 'default'}
                disabled={typed.trim() === ''}
              >
                Look at it
              </RoleButton>
            </Group>
          </Stack>
        </form>
      </Section>
      {path !== null && <Found key={path} path={path} view={view} onImported={onClose} />}
    </Page>
  );
}

interface FoundProps {
  path: string;
  view: ModelsView;
  onImported: () => void;
}

function Found({ path, view, onImported }: FoundProps) {
  const [answers, setAnswers] = useState<ModelAnswers>(noAnswers);
  const { finding, questions, error, options, isLooking } = useFindings(path, answers);
  const run = useAction(
    () => api.models.import.mutate({ path, options: { ...options, ...nameOptionsOf(answers) } }),
    {
      changes: ['models', 'plan', 'status', 'audit'],
      ownErrors: true,
      success: ({ id, isNew }) =>
        isNew ? `“${id}” is imported.` : `The same network was here already, as “${id}”.`,
      onSuccess: onImported,
    },
  );
  const change = (next: ModelAnswers) => {
    run.reset();
    setAnswers(next);
  };
  if (run.isPending) return <ImportUnderWay importing={view.importing ?? { id: null, progress: null }} />;
  if (finding === null && error === null) return <Waiting />;
  const hasOrder = finding?.format === 'onnx';
  const isReady = finding !== null && options !== null && isAnswered(questions, answers, hasOrder);
  return (
    <Section
      title="What Anneal found"
      description="What is called “assumed” stands in no file; check it against the description of the network."
    >
      <Stack gap="lg">
        {finding !== null && <FoundFacts finding={finding} isGiven={answers.recipe !== ''} />}
        <ModelQuestions {...{ questions, answers, hasOrder }} onChange={change} />
        {error !== null && <ErrorPanel error={error} />}
        <OtherSettings
          {...{ answers, finding, questions }}
          forced={finding === null || finding.idTaken || finding.id === ''}
          onChange={change}
        />
        {finding?.isWanted === false && (
          <Alert color="yellow" title="This is not yet the network that the run asks for">
            <Text size="sm">
              The run needs the identity shown above. The same file has another identity with another answer
              about pixels, colours, size or how a face is cut out: ask the coordinator which settings were
              chosen there.
            </Text>
          </Alert>
        )}
        {run.isError && <ErrorPanel error={run.error} />}
        <Group justify="space-between">
          <Text size="sm" c="dimmed" role="status">
            {statusWords({ isReady, isLooking, hasError: error !== null })}
          </Text>
          <RoleButton
            needs={['data-manager', 'administrator']}
            leftSection={<IconFileImport size={16} aria-hidden />}
            disabled={!isReady || error !== null || view.importing !== null}
            onClick={() => {
              recordModelImport(null);
              run.mutate(undefined);
            }}
          >
            Import
          </RoleButton>
        </Group>
      </Stack>
    </Section>
  );
}

function statusWords(now: { isReady: boolean; isLooking: boolean; hasError: boolean }): string {
  if (now.hasError) return '';
  if (!now.isReady) return 'Answer what is asked above.';
  return now.isLooking ? 'Looking at it with these answers…' : 'Everything is known.';
}
