import { Input, SegmentedControl, Select, SimpleGrid } from '@mantine/core';
import { useId } from 'react';
import { fitRounds, hasRank, isAnnealed, type RunSettings } from '../api/run-settings.ts';
import { SliderField } from '../components/slider-field.tsx';
import { initiatingWords, shapeWords } from '../format/words.ts';

export interface SettingsFieldsProps {
  values: RunSettings;
  onChange: (changed: Partial<RunSettings>) => void;
  /** What the coordinator says against the setting of this path, if anything. */
  refused: (setting: string) => string | null;
}

/** Options of a select from a table of words. */
export const choices = (words: Readonly<Record<string, string>>) =>
  Object.entries(words).map(([value, label]) => ({ value, label }));

/** The schedule on sliders: rounds, ranks, stages and how the rank shrinks. */
export function ScheduleFields({ values, onChange, refused }: SettingsFieldsProps) {
  const { rounds, rMax, rMin, initiatingRounds, heatingRounds, coolingRounds, lastK } = values;
  const annealed = isAnnealed(values);
  const left = rounds - initiatingRounds - heatingRounds - coolingRounds;
  const stage = (
    field: 'initiatingRounds' | 'heatingRounds' | 'coolingRounds',
    label: string,
    hint: string,
  ) => (
    <SliderField
      label={label}
      hint={hint}
      value={values[field]}
      min={0}
      // No stage takes rounds that another one has.
      max={values[field] + Math.max(0, left)}
      disabled={!annealed}
      error={refused(field)}
      onChange={(value) => onChange({ [field]: value })}
    />
  );
  return (
    <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="xl" verticalSpacing="md">
      <SliderField
        label="Rounds"
        value={rounds}
        min={1}
        max={100}
        error={refused('rounds')}
        onChange={(value) => onChange(fitRounds(values, value))}
      />
      <ShapeField values={values} onChange={onChange} refused={refused} />
      <SliderField
        label="Largest rank"
        hint="at first"
        value={rMax}
        min={1}
        max={64}
        disabled={!hasRank(values)}
        error={refused('rMax')}
        onChange={(value) => onChange({ rMax: value, rMin: Math.min(rMin, value) })}
      />
      <SliderField
        label="Smallest rank"
        hint="at the end"
        value={rMin}
        min={1}
        max={64}
        disabled={!annealed}
        error={refused('rMin')}
        onChange={(value) => onChange({ rMin: value, rMax: Math.max(rMax, value) })}
      />
      {stage('initiatingRounds', 'Initiating rounds', 'a common start')}
      {stage('heatingRounds', 'Heating rounds', 'largest rank')}
      {stage('coolingRounds', 'Cooling rounds', 'smallest rank')}
      <Select
        label="What trains in the initiating rounds"
        data={choices(initiatingWords)}
        allowDeselect={false}
        disabled={!annealed || initiatingRounds === 0}
        value={values.initiatingMode}
        error={refused('initiatingMode')}
        onChange={(value) => onChange({ initiatingMode: value as RunSettings['initiatingMode'] })}
      />
      {annealed && initiatingRounds > 0 && values.initiatingMode === 'last-k' && (
        <SliderField
          label="Last blocks that train"
          value={lastK}
          min={1}
          max={24}
          error={refused('lastK')}
          onChange={(value) => onChange({ lastK: value })}
        />
      )}
    </SimpleGrid>
  );
}

function ShapeField({ values, onChange }: SettingsFieldsProps) {
  const id = useId();
  return (
    <div>
      <Input.Label id={id} mb={4}>
        How the rank shrinks
      </Input.Label>
      <SegmentedControl
        fullWidth
        aria-labelledby={id}
        disabled={!isAnnealed(values)}
        data={choices(shapeWords)}
        value={values.shape}
        onChange={(shape) => onChange({ shape: shape as RunSettings['shape'] })}
      />
    </div>
  );
}
