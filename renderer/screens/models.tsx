import { Alert, Badge, Box, Button, Group, SimpleGrid, Stack, Text } from '@mantine/core';
import { IconAlertTriangle, IconFileImport, IconTrash } from '@tabler/icons-react';
import { useState } from 'react';
import type { ModelRow, ModelsView } from '../../core/api/contract.ts';
import { describeLeak, leakReasons } from '../../core/config/leak-report.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useModels } from '../api/queries.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { ReportPanel } from '../components/error-panel.tsx';
import { Fact } from '../components/figure.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { formatBytes, formatCount, formatDate, formatHash } from '../format/format.ts';
import { runWords } from '../format/words.ts';
import { ImportNetwork } from '../models/import-network.tsx';
import { ImportUnderWay } from '../models/import-under-way.tsx';
import {
  adaptableWords,
  alignmentWords,
  channelWords,
  inputWords,
  pixelWords,
} from '../models/model-words.ts';
import { Wanted } from '../models/wanted.tsx';

interface ModelsScreenProps {
  /** The page that imports a network is open instead of the list. */
  isAdding: boolean;
  onAdding: (isAdding: boolean) => void;
  /** Where there is no navigation. */
  onBack?: () => void;
}

/** The networks that runs here can start from, and importing another one. */
export function ModelsScreen({ isAdding, onAdding, onBack }: ModelsScreenProps) {
  const models = useModels();
  if (isAdding && models.data !== undefined)
    return <ImportNetwork view={models.data} onClose={() => onAdding(false)} />;
  return (
    <Page
      title="Models"
      subtitle="The networks that a run can start from. Everybody who takes part in a run needs the same one."
      actions={
        <>
          {onBack && (
            <Button variant="subtle" color="gray" onClick={onBack}>
              Back
            </Button>
          )}
          <RoleButton
            needs={['data-manager', 'administrator']}
            leftSection={<IconFileImport size={16} aria-hidden />}
            disabled={models.data === undefined}
            onClick={() => onAdding(true)}
          >
            Import a network…
          </RoleButton>
        </>
      }
    >
      <Loaded query={models}>{(view) => <Models view={view} />}</Loaded>
    </Page>
  );
}

function Models({ view }: { view: ModelsView }) {
  return (
    <Stack gap="lg">
      {view.wanted && <Wanted wanted={view.wanted} />}
      {view.importing && <ImportUnderWay importing={view.importing} />}
      {view.failed && <ReportPanel report={view.failed} />}
      {view.damaged.map(({ id, problem }) => (
        <Damaged key={id} id={id} message={problem.message} />
      ))}
      {view.models.map((model) => (
        <Model key={model.id} model={model} />
      ))}
    </Stack>
  );
}

function Model({ model }: { model: ModelRow }) {
  const { preprocessing } = model.pixels;
  return (
    <Section
      title={model.id}
      description={
        model.importedAt === null ? 'Comes with Anneal' : `Imported on ${formatDate(model.importedAt)}`
      }
      actions={model.format !== 'built-in' && <RemoveButton model={model} />}
    >
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="xl" verticalSpacing={4}>
        <Stack gap={4}>
          <Fact label="Takes">{inputWords(model.inputSize)}</Fact>
          <Fact label="How a face is cut out">
            {alignmentWords(model.alignment.template, model.alignment.source)}
          </Fact>
          <Fact label="What is done to pixels">{pixelWords(model.pixels)}</Fact>
          {preprocessing && <Fact label="Order of the colours">{channelWords(preprocessing)}</Fact>}
          <Fact label="Gives">{formatCount(model.embeddingSize)} numbers for a face</Fact>
        </Stack>
        <Stack gap={4}>
          <Fact label="Adapted by default">
            {model.adaptable === null ? 'being counted' : adaptableWords(model.adaptable)}
          </Fact>
          <Fact label="Licence of its weights">{model.licence}</Fact>
          {model.sizeBytes !== null && <Fact label="Size">{formatBytes(model.sizeBytes)}</Fact>}
          <Fact label="Identity">
            <span className="code" title={model.sha256}>
              {formatHash(model.sha256)}
            </span>
          </Fact>
          <Fact label="Used by">{model.runs.length === 0 ? 'no run yet' : <Runs runs={model.runs} />}</Fact>
        </Stack>
      </SimpleGrid>
      {model.leak && <Leak leak={model.leak} />}
    </Section>
  );
}

function Runs({ runs }: Pick<ModelRow, 'runs'>) {
  return (
    <Stack gap={2}>
      {runs.map(({ id, title, status }) => (
        <Group key={id} gap={6} justify="flex-end" wrap="nowrap">
          <span>{title === '' ? id : title}</span>
          <Badge size="sm" color={runWords[status].color}>
            {runWords[status].label}
          </Badge>
        </Group>
      ))}
    </Stack>
  );
}

function Leak({ leak }: { leak: NonNullable<ModelRow['leak']> }) {
  const reasons = leakReasons(leak);
  return (
    <Box mt="sm">
      <Text size="sm" c={reasons.length === 0 ? 'dimmed' : 'red'}>
        {describeLeak(leak)}
      </Text>
    </Box>
  );
}

function RemoveButton({ model: { id, sha256, needed } }: { model: ModelRow }) {
  return (
    <Removal
      id={id}
      sha256={sha256}
      question={
        needed === null
          ? 'Its files are deleted from this machine. Nothing here needs it now; a later run can use it only after it was imported again.'
          : `It stays: ${needed}.`
      }
      mayRemove={needed === null}
    />
  );
}

function Damaged({ id, message }: { id: string; message: string }) {
  return (
    <Section
      title={id}
      actions={
        <Removal
          id={id}
          sha256={null}
          question="Its files cannot be used as they are. They are deleted from this machine; then import the network again."
          mayRemove
        />
      }
    >
      <Alert color="red" icon={<IconAlertTriangle aria-hidden />} title={message}>
        <Text size="sm">Remove it, then import the network again.</Text>
      </Alert>
    </Section>
  );
}

interface RemovalProps {
  id: string;
  /** Null: a damaged one. */
  sha256: string | null;
  question: string;
  mayRemove: boolean;
}

function Removal({ id, sha256, question, mayRemove }: RemovalProps) {
  const [asking, setAsking] = useState(false);
  const remove = useAction(() => api.models.remove.mutate({ id, sha256 }), {
    changes: ['models', 'plan', 'audit'],
    success: () => `“${id}” is removed.`,
    onSuccess: () => setAsking(false),
    ownErrors: true,
  });
  return (
    <>
      <RoleButton
        needs={['data-manager', 'administrator']}
        variant="subtle"
        color="red.9"
        size="compact-sm"
        leftSection={<IconTrash size={15} aria-hidden />}
        aria-label={`Remove ${id}`}
        onClick={() => setAsking(true)}
      >
        Remove…
      </RoleButton>
      <ConfirmDialog
        opened={asking}
        danger
        title={mayRemove ? `Remove “${id}”?` : `“${id}” cannot be removed`}
        confirmLabel="Remove it"
        onConfirm={mayRemove ? () => remove.mutate(undefined) : null}
        busy={remove.isPending}
        error={remove.error}
        onClose={() => setAsking(false)}
      >
        <Text size="sm">{question}</Text>
      </ConfirmDialog>
    </>
  );
}
