import { Button, Group, Modal, Stack, Text } from '@mantine/core';
import { useState } from 'react';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { CopyText } from '../components/copy-text.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { PathField } from '../components/path-field.tsx';
import { formatCount } from '../format/format.ts';

/** Writes a bundle that an auditor verifies on another machine, and shows the key that it is signed with. */
export function ExportEvidence({ onClose }: { onClose: () => void }) {
  const [folder, setFolder] = useState('');
  const run = useAction(() => api.evidence.export.mutate({ target: folder.trim() }), {
    changes: ['audit'],
    ownErrors: true,
  });
  const written = run.data;
  return (
    <Modal opened onClose={onClose} title="Export evidence" size="lg">
      {written === undefined ? (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            run.mutate(undefined);
          }}
        >
          <Stack>
            <Text size="sm" c="dimmed">
              Contracts, approvals, policies, cohorts, consents and this trail in one signed file. It holds no
              photographs, pseudonyms, file names or labels of single persons. An auditor checks it with
              “anneal audit verify” on any machine.
            </Text>
            <PathField
              label="Folder"
              description="On the machine where Anneal runs. A file that is there is never replaced."
              choose="folder"
              value={folder}
              onChange={setFolder}
            />
            {run.isError && <ErrorPanel error={run.error} />}
            <Group justify="flex-end">
              <Button variant="default" onClick={onClose}>
                Cancel
              </Button>
              <Button type="submit" disabled={folder.trim() === ''} loading={run.isPending}>
                Export
              </Button>
            </Group>
          </Stack>
        </form>
      ) : (
        <Stack>
          <Text size="sm">
            {formatCount(written.rows.audit)} entries of the trail are in {written.file}.
          </Text>
          {written.hidden > 0 && (
            <Text size="sm" c="dimmed">
              {formatCount(written.hidden)} of them are shown without their details, which may name persons;
              their place in the chain is proven all the same.
            </Text>
          )}
          <Text size="sm">
            Tell the auditor this key in another way than the file, for instance by telephone:
          </Text>
          <CopyText label="Key that signed" text={written.publicKey} />
          <Text size="sm">Keep the hash of the newest entry: it proves later that nothing was cut off.</Text>
          <CopyText label="Hash of the newest entry" text={written.head} />
          <Group justify="flex-end">
            <Button onClick={onClose}>Close</Button>
          </Group>
        </Stack>
      )}
    </Modal>
  );
}
