import { Button, Text } from '@mantine/core';
import { IconBell } from '@tabler/icons-react';
import { useState } from 'react';
import { noticePermission } from '../api/approval-notice.ts';

/** In a browser a person allows notices first; the desktop app needs no leave. */
export function NoticeSwitch() {
  const [permission, setPermission] = useState(noticePermission);
  if (permission === 'default') {
    return (
      <Button
        variant="default"
        leftSection={<IconBell size={16} aria-hidden />}
        onClick={() => void Notification.requestPermission().then(setPermission)}
      >
        Tell me on this desktop
      </Button>
    );
  }
  return permission === 'denied' ? (
    <Text size="xs" c="dimmed" maw={220}>
      Your browser does not let Anneal tell you about new requests.
    </Text>
  ) : null;
}
