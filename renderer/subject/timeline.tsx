import { Group, Stack, Text, Timeline } from '@mantine/core';
import { IconFileText, IconPaperclip } from '@tabler/icons-react';
import { useState } from 'react';
import type { SubjectDetail, TimelineRow } from '../../core/api/subject-contract.ts';
import { Section } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { changeWords, giverWords, termWords } from '../format/consent-words.ts';
import { formatBytes, formatDateTime, formatDay } from '../format/format.ts';
import { AttachScanDialog } from './attach-scan.tsx';
import { ScanDialog } from './scan-dialog.tsx';

type Scan = TimelineRow['documents'][number];
type Open = { what: 'attach'; row: TimelineRow } | { what: 'scan'; scan: Scan } | null;

const kindOf: Record<Scan['mediaType'], string> = {
  'application/pdf': 'PDF',
  'image/jpeg': 'JPEG',
  'image/png': 'PNG',
};

/** What was recorded, by whom and when; the newest first, as one asks for it. */
export function ConsentTimeline({ subject }: { subject: SubjectDetail }) {
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  if (subject.timeline.length === 0) return null;
  const rows = [...subject.timeline].reverse();
  return (
    <Section
      title="History of the consent"
      description="Nothing here can be changed or removed, only added to."
    >
      <Timeline bulletSize={14} lineWidth={2} active={rows.length}>
        {rows.map((row) => (
          <Timeline.Item
            key={`${row.change}-${row.eventId}`}
            color={changeWords[row.change].color}
            title={
              <Text size="sm" fw={600}>
                {changeWords[row.change].label}: {row.purpose ?? 'every purpose'}
              </Text>
            }
          >
            <Entry row={row} onOpen={setOpen} />
          </Timeline.Item>
        ))}
      </Timeline>
      {open?.what === 'attach' && (
        <AttachScanDialog pseudonym={subject.pseudonym} eventId={open.row.eventId} onClose={close} />
      )}
      {open?.what === 'scan' && <ScanDialog scan={open.scan} onClose={close} />}
    </Section>
  );
}

function Entry({ row, onOpen }: { row: TimelineRow; onOpen: (open: Open) => void }) {
  if (row.change === 'ended') {
    return (
      <Text size="sm" c="dimmed">
        {row.lastDay === null ? formatDateTime(row.at) : `After its last day, ${formatDay(row.lastDay)}`}
      </Text>
    );
  }
  const isGrant = row.change !== 'withdrawn' && row.change !== 'refused';
  return (
    <Stack gap={2}>
      <Text size="sm" className="numbers">
        {isGrant ? termWords(row) : `In effect since ${formatDateTime(row.from)}`}
      </Text>
      <Text size="xs" c="dimmed">
        {factsOf(row).join(' · ')}
      </Text>
      <Group gap="md">
        {row.documents.map((scan) => (
          <RoleButton
            key={scan.id}
            needs={['data-manager']}
            size="compact-xs"
            variant="light"
            leftSection={<IconFileText size={13} aria-hidden />}
            onClick={() => onOpen({ what: 'scan', scan })}
          >
            Scan of the form ({kindOf[scan.mediaType]}, {formatBytes(scan.sizeBytes)})
          </RoleButton>
        ))}
        <RoleButton
          needs={['data-manager']}
          size="compact-xs"
          variant="subtle"
          leftSection={<IconPaperclip size={13} aria-hidden />}
          aria-label={`Attach a scan: ${changeWords[row.change].label}, ${row.purpose ?? 'every purpose'}`}
          onClick={() => onOpen({ what: 'attach', row })}
        >
          Attach a scan…
        </RoleButton>
      </Group>
    </Stack>
  );
}

function factsOf(row: TimelineRow): string[] {
  return [
    row.documentVersion !== null && `form ${row.documentVersion}`,
    row.reference !== null && `reference ${row.reference}`,
    row.givenBy !== null && `given by ${giverWords[row.givenBy]}`,
    row.verifiedOn !== null && `checked on ${formatDay(row.verifiedOn)}`,
    `recorded by ${row.recordedBy} on ${formatDateTime(row.at)}`,
  ].filter((fact) => fact !== false);
}
