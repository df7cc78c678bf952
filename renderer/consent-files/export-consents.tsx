import { Checkbox, Group, Stack } from '@mantine/core';
import { useForm } from '@mantine/form';
import { IconFileExport } from '@tabler/icons-react';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Section } from '../components/page.tsx';
import { PathField } from '../components/path-field.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { formatPlural } from '../format/format.ts';

/** Writes every subject's consents into a file of this machine. */
export function ExportConsents() {
  const form = useForm({
    initialValues: { file: '', isNdjson: false, force: false },
    validate: {
      file: (path) => (path.trim() === '' ? 'Give the file that is to be written.' : null),
    },
  });
  const run = useAction(
    ({ file, isNdjson, force }: typeof form.values) =>
      api.consentFiles.export.mutate({ file: file.trim(), layout: isNdjson ? 'ndjson' : 'bundle', force }),
    {
      changes: ['audit'],
      ownErrors: true,
      success: ({ consents, subjects }) =>
        `${formatPlural(consents, 'consent')} of ${formatPlural(subjects, 'subject')} written.`,
    },
  );
  return (
    <Stack gap="lg">
      <Section
        title="Export consents"
        description="Every subject’s consents as HL7 FHIR R4. The file holds pseudonyms: keep it as you keep the list of subjects."
      >
        <form noValidate onSubmit={form.onSubmit((values) => run.mutate(values))}>
          <Stack>
            <PathField
              label="File to write"
              placeholder="/data/consents-out.json"
              choose={{ newFile: [{ name: 'FHIR JSON', extensions: ['json', 'ndjson'] }] }}
              value={form.values.file}
              onChange={(path) => form.setFieldValue('file', path)}
              error={form.errors['file']}
            />
            <Group>
              <Checkbox
                label="One resource per line (NDJSON)"
                {...form.getInputProps('isNdjson', { type: 'checkbox' })}
              />
              <Checkbox
                label="Replace the file if it exists"
                {...form.getInputProps('force', { type: 'checkbox' })}
              />
            </Group>
            <Group justify="flex-end">
              <RoleButton
                needs={['data-manager']}
                type="submit"
                loading={run.isPending}
                leftSection={<IconFileExport size={16} aria-hidden />}
              >
                Export consents
              </RoleButton>
            </Group>
          </Stack>
        </form>
      </Section>
      {run.isError && <ErrorPanel error={run.error} />}
    </Stack>
  );
}
