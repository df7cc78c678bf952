import { Button, Collapse, Select, Stack, TagsInput, Text } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { IconChevronDown } from '@tabler/icons-react';
import type { ReactNode } from 'react';
import type { StrategyName } from '../../core/config/run-config.ts';
import { strategyExplanations, strategyWords } from '../format/words.ts';
import { AdvancedRunSettings, advancedSettings } from './advanced-run-settings.tsx';
import { choices, ScheduleFields, type SettingsFieldsProps } from './schedule-fields.tsx';

/** Paths of all settings that have a field to show a refusal at, the first that fits is taken. */
export const fieldSettings: readonly string[] = [
  ...advancedSettings,
  ...['strategy', 'classes', 'rounds', 'rMax', 'rMin', 'initiatingRounds', 'initiatingMode', 'lastK'],
  ...['heatingRounds', 'coolingRounds'],
];

/** What a run trains and for how long. */
export function RunSettingsFields(props: SettingsFieldsProps & { classesError?: ReactNode }) {
  const { values, onChange, refused, classesError } = props;
  const [open, { toggle }] = useDisclosure(false);
  // A refusal at a hidden field would be a riddle.
  const isRefused = advancedSettings.some((setting) => refused(setting) !== null);
  const more = open || isRefused;
  return (
    <Stack gap="md">
      <TagsInput
        label="Labels that the model shall tell apart"
        description="Exactly as in the CSV files of the sites. Type one and press Enter."
        placeholder={values.classes.length === 0 ? 'unaffected' : ''}
        splitChars={[',', ';']}
        value={values.classes}
        onChange={(next) => onChange({ classes: next })}
        error={classesError ?? refused('classes')}
      />
      <StrategyField {...props} />
      <ScheduleFields {...props} />
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
        <Collapse expanded={more}>
          <AdvancedRunSettings {...props} />
        </Collapse>
      </div>
    </Stack>
  );
}

function StrategyField({ values: { strategy }, onChange, refused }: SettingsFieldsProps) {
  return (
    <Select
      label="Method"
      description={strategyExplanations[strategy]}
      inputWrapperOrder={['label', 'input', 'description', 'error']}
      allowDeselect={false}
      maxDropdownHeight={420}
      data={choices(strategyWords)}
      value={strategy}
      error={refused('strategy')}
      onChange={(value) => onChange({ strategy: value as StrategyName })}
      renderOption={({ option: { value, label } }) => (
        <div>
          <Text size="sm" fw={600}>
            {label}
          </Text>
          <Text size="xs" c="dimmed">
            {strategyExplanations[value as StrategyName]}
          </Text>
        </div>
      )}
    />
  );
}
