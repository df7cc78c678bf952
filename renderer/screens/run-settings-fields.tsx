import {
  Button,
  Collapse,
  Group,
  Input,
  NumberInput,
  SegmentedControl,
  Select,
  SimpleGrid,
  Slider,
  Stack,
  TagsInput,
  Text,
} from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { IconChevronDown } from '@tabler/icons-react';
import { type ReactNode, useId } from 'react';
import type { ScheduleShape, StrategyName } from '../../core/strategy/strategy.ts';
import { fitRounds, type RunSettings } from '../api/run-settings.ts';
import { shapeWords, strategyWords } from '../format/words.ts';

interface FieldsProps {
  values: RunSettings;
  onChange: (changed: Partial<RunSettings>) => void;
}

export function RunSettingsFields({
  values,
  onChange,
  classesError,
}: FieldsProps & { classesError?: ReactNode }) {
  const [more, { toggle }] = useDisclosure(false);
  const { rounds, rMax, rMin, strategy, classes } = values;
  const annealed = strategy === 'sa-fedlora';
  return (
    <Stack gap="md">
      <TagsInput
        label="Labels that the model shall tell apart"
        description="Exactly as in the CSV files of the sites. Type one and press Enter."
        placeholder={classes.length === 0 ? 'unaffected' : ''}
        splitChars={[',', ';']}
        value={classes}
        onChange={(next) => onChange({ classes: next })}
        error={classesError}
      />
      <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="xl" verticalSpacing="lg">
        <SliderField
          label="Rounds"
          value={rounds}
          min={1}
          max={50}
          onChange={(value) => onChange(fitRounds(values, value))}
        />
        <ShapeField values={values} onChange={onChange} disabled={!annealed} />
        <SliderField
          label="Largest rank"
          hint="at first"
          value={rMax}
          min={1}
          max={64}
          onChange={(value) => onChange({ rMax: value, rMin: Math.min(rMin, value) })}
        />
        <SliderField
          label="Smallest rank"
          hint="at the end"
          value={rMin}
          min={1}
          max={64}
          disabled={!annealed}
          onChange={(value) => onChange({ rMin: value, rMax: Math.max(rMax, value) })}
        />
      </SimpleGrid>
      <div>
        <Button
          variant="subtle"
          size="compact-sm"
          onClick={toggle}
          aria-expanded={more}
          rightSection={
            <IconChevronDown size={14} aria-hidden style={{ rotate: more ? '180deg' : '0deg' }} />
          }
        >
          More settings
        </Button>
        <Collapse expanded={more}>
          <MoreSettings values={values} onChange={onChange} annealed={annealed} />
        </Collapse>
      </div>
    </Stack>
  );
}

interface SliderFieldProps {
  label: string;
  hint?: string;
  value: number;
  min: number;
  max: number;
  disabled?: boolean;
  onChange: (value: number) => void;
}

function SliderField({ label, hint, value, min, max, disabled = false, onChange }: SliderFieldProps) {
  return (
    <div>
      <Group justify="space-between" mb={6} wrap="nowrap">
        <Text size="sm" fw={600} truncate>
          {label}
          {hint && (
            <Text span size="xs" c="dimmed" fw={400} ml={8}>
              {hint}
            </Text>
          )}
        </Text>
        <Text size="sm" fw={650} className="numbers" aria-hidden>
          {value}
        </Text>
      </Group>
      <Slider
        thumbLabel={label}
        value={Math.min(value, max)}
        min={min}
        max={max}
        onChange={onChange}
        disabled={disabled}
        label={null}
      />
    </div>
  );
}

function ShapeField({ values, onChange, disabled }: FieldsProps & { disabled: boolean }) {
  const id = useId();
  return (
    <div>
      <Input.Label id={id} mb={4}>
        How the rank shrinks
      </Input.Label>
      <SegmentedControl
        fullWidth
        aria-labelledby={id}
        disabled={disabled}
        data={Object.entries(shapeWords).map(([value, label]) => ({ value, label }))}
        value={values.shape}
        onChange={(shape) => onChange({ shape: shape as ScheduleShape })}
      />
    </div>
  );
}

function MoreSettings({ values, onChange, annealed }: FieldsProps & { annealed: boolean }) {
  const stage = (field: 'initiatingRounds' | 'heatingRounds' | 'coolingRounds', label: string) => (
    <NumberInput
      label={label}
      min={0}
      max={values.rounds}
      allowDecimal={false}
      disabled={!annealed}
      value={values[field]}
      // An emptied field is a text: it counts as none.
      onChange={(value) => onChange({ [field]: typeof value === 'number' ? value : 0 })}
    />
  );
  return (
    <Stack mt="sm">
      <Select
        label="Method"
        allowDeselect={false}
        data={Object.entries(strategyWords).map(([value, label]) => ({ value, label }))}
        value={values.strategy}
        onChange={(value) => onChange({ strategy: value as StrategyName })}
      />
      <SimpleGrid cols={3}>
        {stage('initiatingRounds', 'Initiating rounds')}
        {stage('heatingRounds', 'Heating rounds')}
        {stage('coolingRounds', 'Cooling rounds')}
      </SimpleGrid>
    </Stack>
  );
}
