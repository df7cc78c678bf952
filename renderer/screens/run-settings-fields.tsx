import { Fieldset, SimpleGrid, Stack } from '@mantine/core';
import { type ReactNode, useCallback, useEffect, useRef } from 'react';
import { type Setting, settingAt } from '../../core/config/setting.ts';
import {
  changeSetting,
  type FormSettings,
  isIdle,
  isShown,
  largest,
  offeredSettings,
} from '../api/run-settings.ts';
import { Disclosure } from '../components/disclosure.tsx';
import { SettingField } from './setting-field.tsx';

interface RunSettingsFieldsProps {
  values: FormSettings;
  onChange: (changed: Partial<FormSettings>) => void;
  /** What is said against the setting of this path, if anything. */
  refused: (path: string) => ReactNode;
}

const groups = [...Map.groupBy(offeredSettings, ({ group }) => group)];
/** What every run decides; most leave the other groups as they are. */
const isBasic = (group: string) => ['Letter to the sites', 'Method', 'Schedule'].includes(group);

/** Paths of all settings that have a field to show a refusal at. */
export const shownPaths = (values: FormSettings): string[] =>
  offeredSettings.filter((setting) => isShown(setting, values)).map(({ path }) => path);

/** Every setting of a run, in groups. */
export function RunSettingsFields(props: RunSettingsFieldsProps) {
  const newest = useRef(props);
  useEffect(() => {
    newest.current = props;
  });
  const change = useCallback((setting: Setting, value: unknown) => {
    const { values, onChange } = newest.current;
    onChange(changeSetting(values, setting, value));
  }, []);
  const fieldProps = { values: props.values, refused: props.refused, change };
  // A refusal at a hidden field would be a riddle.
  const isRefused = offeredSettings.some(({ group, path }) => !isBasic(group) && props.refused(path));
  return (
    <Stack gap="md">
      {groups
        .filter(([group]) => isBasic(group))
        .map(([group]) => (
          <Fields key={group} {...fieldProps} group={group} />
        ))}
      <Disclosure label="Advanced settings" forced={isRefused}>
        {() => <AdvancedFields {...fieldProps} />}
      </Disclosure>
    </Stack>
  );
}

interface GroupProps extends Omit<RunSettingsFieldsProps, 'onChange'> {
  change: (setting: Setting, value: unknown) => void;
}

function AdvancedFields(props: GroupProps) {
  const shown = groups.filter(
    ([group, settings]) => !isBasic(group) && settings.some((one) => isShown(one, props.values)),
  );
  return (
    <Stack gap="md" mt="sm">
      {shown.map(([group]) => (
        <Fieldset key={group} legend={group}>
          <Fields {...props} group={group} />
        </Fieldset>
      ))}
    </Stack>
  );
}

function Fields({ group, values, refused, change }: GroupProps & { group: string }) {
  const shown = offeredSettings.filter((one) => one.group === group && isShown(one, values));
  return (
    <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="xl" verticalSpacing="md">
      {shown.map((setting) => (
        // Two branches may have settings of the same path.
        <SettingField
          key={`${setting.path} ${setting.when?.[1] ?? ''}`}
          setting={setting}
          value={settingAt(values, setting.path)}
          disabled={isIdle(setting, values)}
          error={refused(setting.path)}
          most={setting.slider ? largest(setting, values) : 0}
          change={change}
        />
      ))}
    </SimpleGrid>
  );
}
