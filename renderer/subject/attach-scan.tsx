import { Button, Group, Modal, Stack, Text } from '@mantine/core';
import { useState } from 'react';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { PathField } from '../components/path-field.tsx';

interface AttachScanDialogProps {
  pseudonym: string;
  eventId: number;
  onClose: () => void;
}

/** A scan of the signed form, kept beside the consent. */
export function AttachScanDialog({ pseudonym, eventId, onClose }: AttachScanDialogProps) {
  const [file, setFile] = useState('');
  const attach = useAction(() => api.subjects.addDocument.mutate({ pseudonym, eventId, file: file.trim() }), {
    changes: ['dataset', 'audit'],
    ownErrors: true,
    success: () => 'Scan attached.',
    onSuccess: onClose,
  });
  return (
    <Modal opened onClose={onClose} title="Attach the scan of the form">
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          if (file.trim() !== '') attach.mutate(undefined);
        }}
      >
        <Stack>
          <Text size="sm" c="dimmed">
            A PDF, JPEG or PNG of at most 10 MB. Anneal keeps a copy in its data folder. It never leaves this
            machine, and goes when the subject is erased.
          </Text>
          <PathField
            label="File"
            placeholder="/data/scans/form.pdf"
            choose={[{ name: 'Scan', extensions: ['pdf', 'jpg', 'jpeg', 'png'] }]}
            value={file}
            onChange={setFile}
          />
          {attach.isError && <ErrorPanel error={attach.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" disabled={file.trim() === ''} loading={attach.isPending}>
              Attach
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
