import { Tabs } from '@mantine/core';
import {
  IconFileCertificate,
  IconFolderPlus,
  IconPhotoOff,
  IconPhotoSearch,
  IconUsers,
} from '@tabler/icons-react';
import { useLocation } from 'wouter';
import { useSetAside } from '../api/queries.ts';
import { Page } from '../components/page.tsx';
import { ConsentFilesPanel } from '../consent-files/panel.tsx';
import { formatCount } from '../format/format.ts';
import { ImportPanel } from './dataset-import.tsx';
import { QualityPanel } from './dataset-quality.tsx';
import { SetAsidePanel } from './dataset-set-aside.tsx';
import { SubjectsPanel } from './dataset-subjects.tsx';

const tabs = ['subjects', 'set-aside', 'quality', 'import', 'consents'];

/** Whose images are here, what they consented to, what could not be used, and how to add more. */
export function DatasetScreen({ tab }: { tab: string | undefined }) {
  const [, navigate] = useLocation();
  const setAside = useSetAside();
  const current = tab !== undefined && tabs.includes(tab) ? tab : 'subjects';
  const asideCount = setAside.data?.length ?? 0;
  const show = (next: string | null) => navigate(next === 'subjects' ? '/dataset' : `/dataset/${next}`);
  return (
    <Page
      title="Images and consent"
      subtitle="Only images whose subject has an active consent are ever used for training."
    >
      <Tabs value={current} onChange={show} keepMounted={false}>
        <Tabs.List mb="lg">
          <Tabs.Tab value="subjects" leftSection={<IconUsers size={17} aria-hidden />}>
            Subjects
          </Tabs.Tab>
          <Tabs.Tab value="set-aside" leftSection={<IconPhotoOff size={17} aria-hidden />}>
            Set aside{asideCount > 0 ? ` (${formatCount(asideCount)})` : ''}
          </Tabs.Tab>
          <Tabs.Tab value="quality" leftSection={<IconPhotoSearch size={17} aria-hidden />}>
            Quality
          </Tabs.Tab>
          <Tabs.Tab value="import" leftSection={<IconFolderPlus size={17} aria-hidden />}>
            Add images
          </Tabs.Tab>
          <Tabs.Tab value="consents" leftSection={<IconFileCertificate size={17} aria-hidden />}>
            Consent files
          </Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="subjects">
          <SubjectsPanel onImport={() => show('import')} />
        </Tabs.Panel>
        <Tabs.Panel value="set-aside">
          <SetAsidePanel />
        </Tabs.Panel>
        <Tabs.Panel value="quality">
          <QualityPanel />
        </Tabs.Panel>
        <Tabs.Panel value="import">
          <ImportPanel onShow={show} />
        </Tabs.Panel>
        <Tabs.Panel value="consents">
          <ConsentFilesPanel />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}
