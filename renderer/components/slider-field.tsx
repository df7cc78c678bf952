import { Group, Slider, Text } from '@mantine/core';
import type { ReactNode } from 'react';

interface SliderFieldProps {
  label: string;
  hint?: string;
  description?: string;
  value: number;
  min: number;
  max: number;
  step?: number;
  disabled?: boolean;
  /** How the value is shown and read out. */
  format?: (value: number) => string;
  error?: ReactNode;
  onChange: (value: number) => void;
}

/** A slider with its name and value above it. Long names take a second line, they are not cut. */
export function SliderField(props: SliderFieldProps) {
  const {
    label,
    hint,
    description,
    value,
    min,
    max,
    step = 1,
    disabled = false,
    format = String,
    error,
    onChange,
  } = props;
  return (
    <div>
      <Group justify="space-between" align="flex-end" mb={6} wrap="nowrap">
        <Text
          size="sm"
          fw={600}
          style={{ minWidth: 0, overflowWrap: 'anywhere' }}
          c={disabled ? 'dimmed' : ''}
        >
          {label}
          {hint && (
            <Text span size="xs" c="dimmed" fw={400} ml={8}>
              {hint}
            </Text>
          )}
        </Text>
        <Text
          size="sm"
          fw={650}
          className="numbers"
          aria-hidden
          c={disabled ? 'dimmed' : ''}
          style={{ whiteSpace: 'nowrap' }}
        >
          {disabled ? '–' : format(value)}
        </Text>
      </Group>
      <Slider
        thumbLabel={label}
        thumbProps={{ 'aria-valuetext': format(value) }}
        value={Math.min(value, max)}
        min={min}
        max={Math.max(min, max)}
        step={step}
        onChange={onChange}
        disabled={disabled || max <= min}
        label={null}
      />
      {description && (
        <Text size="xs" c="dimmed" mt={6}>
          {description}
        </Text>
      )}
      {error && (
        <Text size="xs" c="var(--mantine-color-error)" mt={4} role="alert">
          {error}
        </Text>
      )}
    </div>
  );
}
