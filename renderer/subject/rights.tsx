import { Menu } from '@mantine/core';
import { IconChevronDown, IconEraser, IconFileDescription } from '@tabler/icons-react';
import { useState } from 'react';
import type { SubjectDetail } from '../../core/api/subject-contract.ts';
import { useAction } from '../api/action.ts';
import { base64Of } from '../api/base64.ts';
import { api } from '../api/client.ts';
import { saveFile } from '../api/save-file.ts';
import { RoleButton, RoleMenu } from '../components/role-button.tsx';
import { EraseDialog } from './erase-dialog.tsx';

const managers = ['data-manager'] as const;

/** What a person may ask for: everything that is stored of them, and that it goes. */
export function SubjectRights({ subject }: { subject: SubjectDetail }) {
  const [isErasing, setErasing] = useState(false);
  const report = useAction(
    async (kind: 'pdf' | 'json') => {
      const { report: content, pdf } = await api.rights.report.query({ pseudonym: subject.pseudonym });
      if (kind === 'pdf') saveFile({ name: 'subject-report.pdf', mediaType: 'application/pdf', base64: pdf });
      else
        saveFile({
          ...{ name: 'subject-report.json', mediaType: 'application/json' },
          base64: base64Of(JSON.stringify(content, null, 2)),
        });
    },
    { changes: ['audit'] },
  );
  return (
    <>
      <RoleMenu
        needs={managers}
        variant="default"
        leftSection={<IconFileDescription size={16} aria-hidden />}
        rightSection={<IconChevronDown size={14} aria-hidden />}
        loading={report.isPending}
        items={
          <>
            <Menu.Item onClick={() => report.mutate('pdf')}>For the person (PDF)</Menu.Item>
            <Menu.Item onClick={() => report.mutate('json')}>For a program (JSON)</Menu.Item>
          </>
        }
      >
        Report
      </RoleMenu>
      <RoleButton
        needs={managers}
        variant="default"
        c="red"
        leftSection={<IconEraser size={16} aria-hidden />}
        onClick={() => setErasing(true)}
      >
        Erase…
      </RoleButton>
      {isErasing && <EraseDialog subject={subject} onClose={() => setErasing(false)} />}
    </>
  );
}
