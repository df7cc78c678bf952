import { Stack } from '@mantine/core';
import { ExportConsents } from './export-consents.tsx';
import { ImportConsents } from './import-consents.tsx';

/** Consents from the hospital's consent service, and back. */
export function ConsentFilesPanel() {
  return (
    <Stack gap="lg">
      <ImportConsents />
      <ExportConsents />
    </Stack>
  );
}
