import { Box, Button, Group, List, SimpleGrid, Stack, Text } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { useCallback, useState } from 'react';
import type { AgentStatus, SitePolicyView } from '../../core/api/contract.ts';
import type { Setting } from '../../core/config/setting.ts';
import type { SitePolicy } from '../../core/config/site-policy.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import {
  policyFaults,
  policyGroups,
  ruleOf,
  sameValue,
  type Weakening,
  weakenings,
} from '../api/policy-form.ts';
import { useSitePolicy } from '../api/queries.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { ErrorPanel, ReportPanel } from '../components/error-panel.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { formatDateTime } from '../format/format.ts';
import { ruleValue } from '../format/policy-words.ts';
import { approver, decisionChanges, waitsForSecond } from '../letter/decision-changes.ts';
import { SettingField } from './setting-field.tsx';

/** The rules of this site, which no coordinator overrides. */
export function PolicyScreen({ status }: { status: AgentStatus }) {
  const policy = useSitePolicy();
  return (
    <Page
      title="Policy"
      subtitle="The rules of this site. A run that asks for more is refused before anybody is asked; no coordinator can change them."
    >
      <Loaded query={policy}>
        {(view) => <PolicyForm view={view} isSaid={status.problem?.code === view.problem?.code} />}
      </Loaded>
    </Page>
  );
}

interface PolicyFormProps {
  view: SitePolicyView;
  /** Whether the frame of the screens shows its problem already. */
  isSaid: boolean;
}

/** What is typed stays, whatever the agent answers meanwhile; untouched rules follow what is stored. */
function PolicyForm({ view, isSaid }: PolicyFormProps) {
  const [typed, setTyped] = useState<Partial<SitePolicy>>({});
  const [asking, setAsking] = useState<Weakening[] | null>(null);
  const values: SitePolicy = { ...view.policy, ...typed };
  const change = useCallback(
    (rule: Setting, value: unknown) => setTyped((before) => ({ ...before, [ruleOf(rule)]: value })),
    [],
  );
  const save = useAction((policy: SitePolicy) => api.site.setPolicy.mutate({ policy }), {
    changes: decisionChanges,
    onSuccess: ({ proposed }) => {
      if (proposed !== null) notifications.show({ message: waitsForSecond, color: 'green' });
      setTyped({});
      setAsking(null);
    },
    ownErrors: true,
  });
  const faults = policyFaults(values);
  const isChanged = !sameValue(values, view.policy);
  const submit = () => {
    const weaker = weakenings(view, values);
    if (weaker.length > 0) setAsking(weaker);
    else save.mutate(values);
  };
  return (
    <form
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <Stack gap="lg">
        {view.problem !== null && !isSaid && <ReportPanel report={view.problem} />}
        {policyGroups.map(([group, rules]) => (
          <Section key={group} title={group}>
            <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="xl" verticalSpacing="md">
              {rules.map((rule) => (
                <Rule
                  key={rule.path}
                  rule={rule}
                  value={values[ruleOf(rule)]}
                  preset={view.defaults[ruleOf(rule)]}
                  fault={faults[ruleOf(rule)]}
                  change={change}
                />
              ))}
            </SimpleGrid>
            {rules.some((rule) => ruleOf(rule) === 'minProtectedSubjectsPerClass') && <RareClasses />}
          </Section>
        ))}
        {save.isError && asking === null && <ErrorPanel error={save.error} />}
        <SaveBar
          view={view}
          isChanged={isChanged}
          hasFaults={Object.keys(faults).length > 0}
          busy={save.isPending && asking === null}
          onDiscard={() => setTyped({})}
        />
      </Stack>
      {asking !== null && (
        <WeakerDialog
          weaker={asking}
          busy={save.isPending}
          error={save.error}
          onConfirm={() => save.mutate(values)}
          onClose={() => {
            save.reset();
            setAsking(null);
          }}
        />
      )}
    </form>
  );
}

interface RuleProps {
  rule: Setting;
  value: unknown;
  preset: unknown;
  fault: string | undefined;
  change: (rule: Setting, value: unknown) => void;
}

function Rule({ rule, value, preset, fault, change }: RuleProps) {
  return (
    <Box style={{ minWidth: 0 }}>
      <SettingField setting={rule} value={value} error={fault} change={change} />
      {!sameValue(value, preset) && (
        <Group gap={4} mt={4}>
          <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
            Default: {ruleValue(rule, preset)}
          </Text>
          <Button
            size="compact-xs"
            variant="subtle"
            aria-label={`Use the default: ${rule.label}`}
            onClick={() => change(rule, preset)}
          >
            Use it
          </Button>
        </Group>
      )}
    </Box>
  );
}

/** Why a class may be smaller where more protects what leaves. */
function RareClasses() {
  return (
    <Text size="sm" mt="md" c="dimmed" maw={760}>
      <b>Rare diseases.</b> A rare disease has few patients, and an update about a class of one or two tells a
      lot about exactly these faces. So such a class stays out of the training, and the shared model learns
      less about it. Where noise is added at this site, or updates are summed securely, an update tells far
      less about any single patient: then “Subjects in each class, protected” decides, and rare classes may
      train. Raise it if your hospital wants more patients than that behind each class.
    </Text>
  );
}

interface SaveBarProps {
  view: SitePolicyView;
  isChanged: boolean;
  hasFaults: boolean;
  busy: boolean;
  onDiscard: () => void;
}

function SaveBar({ view, isChanged, hasFaults, busy, onDiscard }: SaveBarProps) {
  const { problem } = view;
  return (
    <Group justify="space-between" wrap="nowrap">
      <Text size="sm" c="dimmed" aria-live="polite">
        {versionWords(view)} The audit trail keeps every change.
      </Text>
      <Group wrap="nowrap" style={{ flexShrink: 0 }}>
        {isChanged && (
          <Button variant="default" onClick={onDiscard}>
            Discard changes
          </Button>
        )}
        <RoleButton
          needs={approver}
          type="submit"
          loading={busy}
          disabled={hasFaults || (!isChanged && problem === null)}
        >
          {problem === null || isChanged ? 'Save policy' : 'Save as it is shown'}
        </RoleButton>
      </Group>
    </Group>
  );
}

function versionWords({ version, setBy, setAt }: SitePolicyView): string {
  if (version === 0) return 'The defaults of Anneal; nobody has saved them yet.';
  const at = formatDateTime(setAt);
  return setBy === 'anneal'
    ? `Version ${version}: the defaults of Anneal, kept since ${at}.`
    : `Version ${version}, set by ${setBy} on ${at}.`;
}

interface WeakerDialogProps {
  weaker: readonly Weakening[];
  busy: boolean;
  error: unknown;
  onConfirm: () => void;
  onClose: () => void;
}

function WeakerDialog({ weaker, ...dialog }: WeakerDialogProps) {
  return (
    <ConfirmDialog opened danger title="This protects less than before" confirmLabel="Save it" {...dialog}>
      <List size="sm" spacing={4} withPadding>
        {weaker.map(({ label, before, after }) => (
          <List.Item key={label} style={{ overflowWrap: 'anywhere' }}>
            <b>{label}</b>: {before} → {after}
          </List.Item>
        ))}
      </List>
      <Text size="sm">
        Runs may ask this site for more from now on. The audit trail keeps who changed it. Save it only if
        your hospital has decided so.
      </Text>
    </ConfirmDialog>
  );
}
