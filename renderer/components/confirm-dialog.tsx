import { Button, Group, Modal, Stack } from '@mantine/core';
import type { ReactNode } from 'react';
import { ErrorPanel } from './error-panel.tsx';

interface ConfirmDialogProps {
  opened: boolean;
  title: string;
  /** What happens when it is confirmed. */
  children: ReactNode;
  confirmLabel: string;
  danger?: boolean;
  busy: boolean;
  error: unknown;
  /** Null: it cannot be done, and the dialog says why. */
  onConfirm: (() => void) | null;
  onClose: () => void;
}

/** Asks before something that cannot be taken back; says what it does. */
export function ConfirmDialog(props: ConfirmDialogProps) {
  return (
    <Modal opened={props.opened} onClose={props.onClose} title={props.title}>
      <Stack>
        {props.children}
        {props.error != null && <ErrorPanel error={props.error} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={props.onClose} data-autofocus>
            {props.onConfirm === null ? 'Close' : 'Cancel'}
          </Button>
          {props.onConfirm !== null && (
            <Button color={props.danger ? 'red.9' : 'brand'} loading={props.busy} onClick={props.onConfirm}>
              {props.confirmLabel}
            </Button>
          )}
        </Group>
      </Stack>
    </Modal>
  );
}
