import { ActionIcon, Group, List, Stack, Text, TextInput } from '@mantine/core';
import { IconEye, IconFileImport, IconX } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { defaultPurpose } from '../../core/config/consent-defaults.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { keys } from '../api/queries.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Section } from '../components/page.tsx';
import { PathField } from '../components/path-field.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { ConsentFileReport } from './report.tsx';
import { type ConsentFileOutcome, TableReport } from './table-report.tsx';

/** Other purposes of a code are mapped on the command line. */
const purpose = defaultPurpose;

/** Reads a file of FHIR consents: looked at first, then recorded. */
export function ImportConsents() {
  const [file, setFile] = useState('');
  const [system, setSystem] = useState<string | null>(null);
  /** Codes that a person has said to permit training, `SYSTEM|CODE`, and that are not remembered yet. */
  const [codes, setCodes] = useState<readonly string[]>([]);
  const [forgotten, setForgotten] = useState<readonly string[]>([]);
  const remembered = useQuery({
    queryKey: keys.fhirOptions,
    queryFn: () => api.consentFiles.fhirOptions.query(),
  });
  const shownSystem = system ?? remembered.data?.identifierSystem ?? '';
  const isChanged = system !== null || codes.length > 0 || forgotten.length > 0;
  const changes = {
    ...(system !== null && { identifierSystem: system.trim() === '' ? null : system.trim() }),
    purposes: codes.map(mappingOf),
    forget: [...forgotten],
  };
  const read = (preview: boolean) => readConsents(file.trim(), preview, isChanged ? changes : undefined);
  const look = useAction(() => read(true), { changes: [], ownErrors: true });
  const record = useAction(() => read(false), {
    ...{ changes: ['dataset', 'consent', 'site', 'audit'], ownErrors: true },
  });
  const isPreview = record.isIdle;
  const run = isPreview ? look : record;
  const changed = () => {
    look.reset();
    record.reset();
  };
  /** What was said is remembered by the site now. */
  const remember = () => {
    setCodes([]);
    setForgotten([]);
    setSystem(null);
  };
  const known = (remembered.data?.purposes ?? []).filter(
    (entry) => !forgotten.includes(entry.code) && !codes.includes(nameOf(entry)),
  );
  const mapped = [
    ...known.map((entry) => ({ key: nameOf(entry), code: entry.code, purpose: entry.purpose, isNew: false })),
    ...codes.map((code) => ({ key: code, code, purpose, isNew: true })),
  ];
  const forget = ({ code, isNew }: (typeof mapped)[number]) => {
    if (isNew) setCodes(codes.filter((other) => other !== code));
    else setForgotten([...forgotten, code]);
    changed();
  };
  return (
    <Stack gap="lg">
      <Section
        title="Import consents"
        description="HL7 FHIR R4 Consents (a Bundle, NDJSON, or one resource), or a table (CSV or Excel). Look at it first: nothing is recorded by that."
      >
        <Stack>
          <PathField
            label="File of consents"
            placeholder="/data/consents.json"
            choose={[{ name: 'Consents', extensions: ['json', 'ndjson', 'csv', 'txt', 'tsv', 'xlsx'] }]}
            value={file}
            onChange={(path) => {
              setFile(path);
              changed();
            }}
          />
          <TextInput
            label="Identifier system of the pseudonyms"
            description="For FHIR only. Leave it empty if the pseudonym is the id in Patient/ID."
            placeholder="https://hospital.example/pseudonym"
            spellCheck={false}
            value={shownSystem}
            onChange={(event) => {
              setSystem(event.currentTarget.value);
              changed();
            }}
          />
          <MappedCodes mapped={mapped} onForget={forget} />
          <Group justify="flex-end">
            <RoleButton
              needs={['data-manager']}
              variant={run.data === undefined ? 'filled' : 'default'}
              disabled={file.trim() === ''}
              loading={look.isPending}
              leftSection={<IconEye size={16} aria-hidden />}
              onClick={() => {
                record.reset();
                look.mutate(undefined);
              }}
            >
              Look at it
            </RoleButton>
            <RoleButton
              needs={['data-manager']}
              disabled={run.data === undefined || !isPreview}
              loading={record.isPending}
              leftSection={<IconFileImport size={16} aria-hidden />}
              onClick={() => record.mutate(undefined, { onSuccess: remember })}
            >
              Record these consents
            </RoleButton>
          </Group>
        </Stack>
      </Section>
      {run.isError && <ErrorPanel error={run.error} />}
      {run.data?.format === 'fhir' && (
        <ConsentFileReport
          report={run.data}
          isPreview={isPreview}
          purpose={purpose}
          onMap={(code) => {
            setCodes([...codes, code]);
            changed();
          }}
        />
      )}
      {run.data !== undefined && run.data.format !== 'fhir' && <TableReport report={run.data} />}
    </Stack>
  );
}

type FhirChanges = Parameters<typeof api.consentFiles.import.mutate>[0]['fhir'];

/** By what the file holds, whatever its name. */
async function readConsents(file: string, preview: boolean, fhir: FhirChanges): Promise<ConsentFileOutcome> {
  if ((await api.consentFiles.format.query({ file })) === 'fhir') {
    return { format: 'fhir', ...(await api.consentFiles.import.mutate({ file, preview, fhir })) };
  }
  if (preview) return { format: 'table preview', table: await api.site.previewConsents.mutate({ file }) };
  return { format: 'table', ...(await api.site.importConsents.mutate({ file })) };
}

const nameOf = ({ system, code }: { system: string | null; code: string }) =>
  system === null ? code : `${system}|${code}`;

function mappingOf(name: string) {
  const bar = name.lastIndexOf('|');
  return { system: bar < 0 ? null : name.slice(0, bar), code: name.slice(bar + 1), purpose };
}

interface MappedCodesProps {
  mapped: readonly { key: string; code: string; purpose: string; isNew: boolean }[];
  onForget: (entry: MappedCodesProps['mapped'][number]) => void;
}

function MappedCodes({ mapped, onForget }: MappedCodesProps) {
  if (mapped.length === 0) {
    return (
      <Text size="sm" c="dimmed">
        No code of this hospital’s consents is said to permit anything yet. Look at the file, and say it
        there.
      </Text>
    );
  }
  return (
    <div>
      <Text size="sm" fw={500} id="mapped-codes">
        What the codes permit
      </Text>
      <List size="sm" listStyleType="none" aria-labelledby="mapped-codes">
        {mapped.map((entry) => (
          <List.Item key={entry.key}>
            <Group gap={6} wrap="nowrap">
              <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                {entry.key}: {entry.purpose}
              </Text>
              <ActionIcon
                variant="subtle"
                size="sm"
                aria-label={`Forget what ${entry.code} permits`}
                onClick={() => onForget(entry)}
              >
                <IconX size={14} aria-hidden />
              </ActionIcon>
            </Group>
          </List.Item>
        ))}
      </List>
    </div>
  );
}
