import { Alert, Button, Group, List, Modal, Stack, Text, TextInput } from '@mantine/core';
import { IconCircleCheck, IconDownload } from '@tabler/icons-react';
import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import type { SubjectDetail } from '../../core/api/subject-contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useTrace } from '../api/queries.ts';
import { saveFile } from '../api/save-file.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { formatDate, formatPlural } from '../format/format.ts';

interface EraseDialogProps {
  subject: SubjectDetail;
  onClose: () => void;
}

/** Cannot be taken back: says what goes and what stays, and asks for the pseudonym. */
export function EraseDialog({ subject, onClose }: EraseDialogProps) {
  const { pseudonym } = subject;
  const [typed, setTyped] = useState('');
  const isTyped = typed.trim().normalize('NFC') === pseudonym.normalize('NFC');
  const [, navigate] = useLocation();
  const queries = useQueryClient();
  // Nothing is asked for again yet: the page below is about somebody who is not here any more.
  const erase = useAction(() => api.rights.erase.mutate({ pseudonym }), {
    changes: [],
    ownErrors: true,
    // Answers of other pages name the person: a list must not show them, not even until it is asked for again.
    onSuccess: ({ erased }) => {
      if (erased != null) queries.removeQueries({ type: 'inactive' });
    },
  });
  const leave = () => navigate('/dataset');
  if (erase.data?.proposed != null)
    return (
      <Modal opened onClose={onClose} title="A second person has to confirm">
        <Stack>
          <Text size="sm">
            Nothing is erased yet. The policy of this site asks for two people: somebody else has to choose
            Erase on this page, too, until {formatDate(erase.data.proposed.expiresAt)}.
          </Text>
          <Group justify="flex-end">
            <Button onClick={onClose}>Close</Button>
          </Group>
        </Stack>
      </Modal>
    );
  if (erase.data?.erased != null)
    return <Erased pseudonym={pseudonym} certificate={erase.data.erased.certificate} onClose={leave} />;
  return (
    <Modal opened onClose={onClose} title={`Erase ${pseudonym}?`} size="lg">
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          if (isTyped) erase.mutate(undefined);
        }}
      >
        <Stack>
          <WhatGoes subject={subject} />
          <TextInput
            label="Type the pseudonym to confirm"
            description="This cannot be taken back."
            data-autofocus
            autoComplete="off"
            spellCheck={false}
            value={typed}
            onChange={(event) => setTyped(event.currentTarget.value)}
          />
          {erase.isError && <ErrorPanel error={erase.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" color="red.9" disabled={!isTyped} loading={erase.isPending}>
              Erase
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

function WhatGoes({ subject }: { subject: SubjectDetail }) {
  const { pseudonym, images, timeline } = subject;
  const trace = useTrace(pseudonym);
  const scans = timeline.reduce((sum, { documents }) => sum + documents.length, 0);
  const all = images.train + images.test + images.setAside;
  const runs = trace.data?.runs.length ?? null;
  return (
    <>
      <div>
        <Text size="sm" fw={600}>
          What goes, from the data folder of this site
        </Text>
        <List size="sm" spacing={2} withPadding>
          <List.Item>the pseudonym, also in older entries of the audit trail</List.Item>
          <List.Item>
            {formatPlural(all, 'image')}: face crops, labels, corrections, what was measured of them
          </List.Item>
          <List.Item>
            consents and withdrawals{scans > 0 && `, with ${formatPlural(scans, 'scan')} of the form`}
          </List.Item>
          <List.Item>work files of training that was made with them</List.Item>
        </List>
      </div>
      <div>
        <Text size="sm" fw={600}>
          What stays
        </Text>
        <List size="sm" spacing={2} withPadding>
          <List.Item>the photographs in the folder that they were imported from</List.Item>
          <List.Item>
            models that were trained already
            {runs !== null &&
              (runs === 0
                ? ': this subject was in none'
                : `: this subject was in ${formatPlural(runs, 'run')}, see “Which runs?” first`)}
          </List.Item>
          <List.Item>
            one entry of the audit trail that says that somebody was erased, under a keyed hash
          </List.Item>
          <List.Item>
            backups that were made before, until somebody deletes them, and copies that others made
          </List.Item>
        </List>
      </div>
    </>
  );
}

interface ErasedProps {
  pseudonym: string;
  /** PDF, base64. */
  certificate: string;
  onClose: () => void;
}

function Erased({ pseudonym, certificate, onClose }: ErasedProps) {
  return (
    <Modal opened onClose={onClose} title="Erased">
      <Stack>
        <Alert color="green" icon={<IconCircleCheck aria-hidden />} role="status">
          {pseudonym} is erased.
        </Alert>
        <Text size="sm">
          The certificate says what went, when, and which models stay. Give it to the person; this site keeps
          no copy of it.
        </Text>
        <Group justify="flex-end">
          <Button
            leftSection={<IconDownload size={16} aria-hidden />}
            onClick={() =>
              saveFile({
                name: 'erasure-certificate.pdf',
                mediaType: 'application/pdf',
                base64: certificate,
              })
            }
          >
            Save the certificate
          </Button>
          <Button variant="default" onClick={onClose}>
            Back to the list
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
