import { Button, Group, Image, Modal, Stack, Text } from '@mantine/core';
import { IconDownload } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { TimelineRow } from '../../core/api/subject-contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { saveFile } from '../api/save-file.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Loaded } from '../components/loaded.tsx';
import { formatBytes, formatDateTime, formatHash } from '../format/format.ts';

const endings = { 'application/pdf': 'pdf', 'image/jpeg': 'jpg', 'image/png': 'png' } as const;

interface ScanDialogProps {
  scan: TimelineRow['documents'][number];
  onClose: () => void;
}

/** Shows a scan that is an image, gives a PDF to save, and takes a wrong one away. */
export function ScanDialog({ scan, onClose }: ScanDialogProps) {
  const [isSure, setSure] = useState(false);
  const file = useQuery({
    queryKey: ['scan', scan.id],
    queryFn: () => api.subjects.document.query({ id: scan.id }),
    // Megabytes: not kept once the dialog is closed.
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const remove = useAction(() => api.subjects.removeDocument.mutate({ id: scan.id }), {
    changes: ['dataset', 'audit'],
    ownErrors: true,
    success: () => 'Scan taken away.',
    onSuccess: onClose,
  });
  return (
    <Modal opened onClose={onClose} title="Scan of the consent form" size="lg">
      <Stack>
        <Text size="sm" c="dimmed">
          {formatBytes(scan.sizeBytes)}, attached by {scan.addedBy} on {formatDateTime(scan.addedAt)}. SHA-256{' '}
          <span className="code">{formatHash(scan.sha256)}</span> is in the audit trail.
        </Text>
        <Loaded query={file}>
          {({ mediaType, base64 }) =>
            mediaType === 'application/pdf' ? (
              <Text size="sm">A PDF is not shown here: save it and open it in your own viewer.</Text>
            ) : (
              <Image
                src={`data:${mediaType};base64,${base64}`}
                alt="Scan of the consent form"
                mah={520}
                fit="contain"
              />
            )
          }
        </Loaded>
        {remove.isError && <ErrorPanel error={remove.error} />}
        {isSure && (
          <Text size="sm">
            Take this scan away, for instance because it is of somebody else? Its file is deleted. The audit
            trail keeps that it was here.
          </Text>
        )}
        <Group justify="space-between">
          {isSure ? (
            <Button color="red.9" loading={remove.isPending} onClick={() => remove.mutate(undefined)}>
              Take it away
            </Button>
          ) : (
            <Button variant="subtle" color="red" onClick={() => setSure(true)}>
              Wrong scan…
            </Button>
          )}
          <Button
            leftSection={<IconDownload size={16} aria-hidden />}
            disabled={file.data === undefined}
            onClick={() => {
              if (file.data)
                saveFile({ ...file.data, name: `consent-form-${scan.id}.${endings[scan.mediaType]}` });
            }}
          >
            Save a copy
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
