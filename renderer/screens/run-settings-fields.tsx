import { Button, Collapse, Fieldset, SimpleGrid, Stack } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { IconChevronDown } from '@tabler/icons-react';
import { type ComponentProps, useCallback, useEffect, useRef } from 'react';
import type { Setting } from '../../core/config/setting.ts';
import { changeSetting, type FormSettings, isShown, offeredSettings } from '../api/run-settings.ts';
import { SettingField, type SettingsFieldsProps } from './setting-field.tsx';

const groups = [...Map.groupBy(offeredSettings, ({ group }) => group)];
/** What every run decides; most leave the other groups as they are. */
const isBasic = (group: string) => group === 'Method' || group === 'Schedule';

/** Paths of all settings that have a field to show a refusal at. */
export const shownPaths = (values: FormSettings): string[] =>
  offeredSettings.filter((setting) => isShown(setting, values)).map(({ path }) => path);

/** Every setting of a run, in groups. */
export function RunSettingsFields(props: SettingsFieldsProps) {
  const [open, { toggle }] = useDisclosure(false);
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
  const more = open || isRefused;
  return (
    <Stack gap="md">
      {groups
        .filter(([group]) => isBasic(group))
        .map(([group]) => (
          <Fields key={group} {...fieldProps} group={group} />
        ))}
      <div>
        <Button
          variant="subtle"
          size="compact-sm"
          onClick={toggle}
          disabled={isRefused}
          aria-expanded={more}
          rightSection={
            <IconChevronDown size={14} aria-hidden style={{ rotate: more ? '180deg' : '0deg' }} />
          }
        >
          Advanced settings
        </Button>
        <Collapse expanded={more}>{more && <AdvancedFields {...fieldProps} />}</Collapse>
      </div>
    </Stack>
  );
}

type GroupProps = Omit<ComponentProps<typeof SettingField>, 'setting'>;

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

function Fields({ group, ...props }: GroupProps & { group: string }) {
  const shown = offeredSettings.filter((one) => one.group === group && isShown(one, props.values));
  return (
    <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="xl" verticalSpacing="md">
      {shown.map((setting) => (
        // Two branches may have settings of the same path.
        <SettingField key={`${setting.path} ${setting.when?.[1] ?? ''}`} {...props} setting={setting} />
      ))}
    </SimpleGrid>
  );
}
