import {
  Input,
  NumberInput,
  SegmentedControl,
  Select,
  Switch,
  TagsInput,
  Text,
  Textarea,
  TextInput,
} from '@mantine/core';
import { memo, type ReactNode, useId, useState } from 'react';
import { type Setting, splitWords } from '../../core/config/setting.ts';
import { SliderField } from '../components/slider-field.tsx';
import { formatPercent } from '../format/format.ts';

interface FieldProps {
  setting: Setting;
  value: unknown;
  disabled: boolean;
  error: ReactNode;
  /** End of the slider, if it is one. */
  most: number;
  onChange: (value: unknown) => void;
}

interface SettingFieldProps
  extends Pick<FieldProps, 'setting' | 'value'>,
    Partial<Pick<FieldProps, 'disabled' | 'error' | 'most'>> {
  /** Stays the same function: only fields that change draw again. */
  change: (setting: Setting, value: unknown) => void;
}

/** A field of the kind that suits a setting: of a run, or a rule of a site's policy. */
export const SettingField = memo(function SettingField(props: SettingFieldProps) {
  const { setting, value, disabled = false, error = null, most = 0, change } = props;
  const Field = setting.slider ? SettingSlider : fields[setting.kind];
  return (
    <Field
      {...{ setting, value, disabled, error, most }}
      onChange={(next: unknown) => change(setting, next)}
    />
  );
});

const order: ('label' | 'input' | 'description' | 'error')[] = ['label', 'input', 'description', 'error'];
const common = ({ setting: { label, help }, disabled, error }: FieldProps) => ({
  label,
  description: help,
  inputWrapperOrder: order,
  disabled,
  error,
});

function SettingSlider({ setting, value, disabled, error, most, onChange }: FieldProps) {
  const [least, , step = 1] = setting.slider!;
  // A few words stand beside the name, a sentence below.
  const isShort = setting.help.length < 25;
  return (
    <SliderField
      label={setting.label}
      {...(isShort
        ? { hint: setting.help.replace(/\.$/, '').replace(/^./, (letter) => letter.toLowerCase()) }
        : { description: setting.help })}
      value={Number(value)}
      min={least}
      max={most}
      step={step}
      disabled={disabled}
      format={setting.unit === 'share' ? (share) => (share === 1 ? 'all' : formatPercent(share, 0)) : String}
      error={error}
      onChange={onChange}
    />
  );
}

/** By which a value is multiplied to be shown. */
const scales = { share: 100, minutes: 1 / 60_000 };
const suffixes = { share: ' %', minutes: ' min' };
const rounded = (value: number) => Number(value.toPrecision(12));

function NumberField(props: FieldProps) {
  const { setting, value, onChange } = props;
  const { kind, unit, byDefault, none = byDefault } = setting;
  const { minValue, maxValue } = setting.schema as unknown as { minValue: number; maxValue: number };
  const scale = unit === undefined ? 1 : scales[unit];
  const preset = Number(setting.default ?? setting.start ?? 0) * scale;
  const mayBeAbsent = none !== undefined || (setting.default === undefined && setting.start === undefined);
  return (
    <NumberInput
      {...common(props)}
      min={minValue * scale}
      max={maxValue * scale}
      allowDecimal={kind === 'number' || unit !== undefined}
      step={kind === 'integer' || preset <= 0 ? 1 : rounded(10 ** (Math.floor(Math.log10(preset)) - 1))}
      {...(unit !== undefined && { suffix: suffixes[unit] })}
      {...(mayBeAbsent && { placeholder: byDefault ?? none ?? 'none' })}
      value={typeof value === 'number' ? rounded(value * scale) : ''}
      // An emptied field is a text: the coordinator decides, or the last value stays.
      onChange={(next) => {
        if (typeof next === 'number') onChange(rounded(next / scale));
        else if (mayBeAbsent) onChange(undefined);
      }}
    />
  );
}

function SwitchField({ setting: { label, help }, value, disabled, error, onChange }: FieldProps) {
  return (
    <Switch
      label={label}
      description={help}
      disabled={disabled}
      error={error}
      checked={value !== false}
      onChange={({ currentTarget: { checked } }) => onChange(checked)}
    />
  );
}

const absent = 'absent';

function ChoiceField(props: FieldProps) {
  const { setting, value, onChange } = props;
  const { choices = {}, byDefault, path } = setting;
  const none = byDefault === undefined ? setting.none : `By default: ${byDefault}`;
  const words = Object.entries(choices).map(([name, text]) => ({ value: name, ...splitWords(text) }));
  if (words.length <= 3 && words.every(({ label }) => label.length <= 8))
    return <SegmentedField {...props} />;
  const data = words.map(({ value: name, label }) => ({ value: name, label }));
  // A choice without a default may be absent; a whole group is then null.
  const all = none === undefined ? data : [{ value: absent, label: none }, ...data];
  const leavesOut = byDefault !== undefined || !path.includes('.');
  const helpOf = (name: unknown) => words.find((word) => word.value === name)?.help ?? '';
  return (
    <Select
      {...common(props)}
      description={helpOf(value) || setting.help}
      allowDeselect={false}
      maxDropdownHeight={420}
      data={all}
      value={value === undefined || value === null ? absent : String(value)}
      onChange={(next) => onChange(next !== absent ? next : leavesOut ? undefined : null)}
      renderOption={({ option }) => (
        <div>
          <Text size="sm" fw={helpOf(option.value) === '' ? 400 : 600}>
            {option.label}
          </Text>
          <Text size="xs" c="dimmed">
            {helpOf(option.value)}
          </Text>
        </div>
      )}
    />
  );
}

function SegmentedField(props: FieldProps) {
  const { setting, value, disabled, onChange } = props;
  const id = useId();
  const data = Object.entries(setting.choices!).map(([name, label]) => ({ value: name, label }));
  return (
    <Input.Wrapper {...common(props)} label={undefined}>
      <Input.Label id={id} mb={4}>
        {setting.label}
      </Input.Label>
      <SegmentedControl
        fullWidth
        mb={5}
        aria-labelledby={id}
        disabled={disabled}
        data={data}
        value={String(value)}
        onChange={onChange}
      />
    </Input.Wrapper>
  );
}

function ListField(props: FieldProps) {
  const value = props.value as string[];
  return (
    <TagsInput
      {...common(props)}
      placeholder={value.length === 0 ? 'Type one and press Enter' : ''}
      splitChars={[',', ';']}
      value={value}
      onChange={props.onChange}
    />
  );
}

/** Several names, or one that may be a regular expression. */
function NamesField(props: FieldProps) {
  const value = props.value as string | string[] | undefined;
  const isOptional = props.setting.default === undefined;
  const tags = value === undefined ? [] : typeof value === 'string' ? [value] : value;
  return (
    <TagsInput
      {...common(props)}
      placeholder={tags.length === 0 ? 'none' : ''}
      splitChars={[]}
      value={tags}
      onChange={(next) => {
        if (next.length > 0) props.onChange(next.length === 1 ? next[0] : next);
        else props.onChange(isOptional ? undefined : props.setting.default);
      }}
    />
  );
}

/** A number for each of some names, as `name=number`. */
function TableField(props: FieldProps) {
  const table = (props.value ?? {}) as Readonly<Record<string, number>>;
  const [wrong, setWrong] = useState<string | null>(null);
  const tags = Object.entries(table).map(([name, number]) => `${name}=${number}`);
  const read = (tag: string) => /^(.+)=\s*(\d+(?:\.\d+)?)$/.exec(tag);
  return (
    <TagsInput
      {...common(props)}
      error={wrong === null ? props.error : `Write name=number instead of "${wrong}".`}
      placeholder={tags.length === 0 ? 'name=number' : ''}
      splitChars={[',', ';']}
      value={tags}
      onChange={(next) => {
        setWrong(next.find((tag) => read(tag) === null) ?? null);
        const entries = next.flatMap((tag) => {
          const [, name, number] = read(tag) ?? [];
          return name === undefined ? [] : [[name.trim(), Number(number)] as const];
        });
        const isOptional = props.setting.default === undefined;
        props.onChange(entries.length === 0 && isOptional ? undefined : Object.fromEntries(entries));
      }}
    />
  );
}

function TextField(props: FieldProps) {
  const { setting, value, onChange } = props;
  const shared = {
    ...common(props),
    maxLength: (setting.schema as unknown as { maxLength: number | null }).maxLength ?? undefined,
    value: String(value ?? ''),
    onChange: ({ currentTarget }: { currentTarget: { value: string } }) => onChange(currentTarget.value),
  };
  return setting.long ? (
    <Textarea autosize minRows={1} maxRows={12} {...shared} />
  ) : (
    <TextInput {...shared} />
  );
}

const fields = {
  number: NumberField,
  integer: NumberField,
  switch: SwitchField,
  choice: ChoiceField,
  list: ListField,
  names: NamesField,
  table: TableField,
  text: TextField,
};
