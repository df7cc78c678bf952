import { Fieldset, NumberInput, Select, SimpleGrid, Stack, Switch } from '@mantine/core';
import type { ReactNode } from 'react';
import type { PrivacySettings, RobustSettings, WirePrecision } from '../../core/config/round-options.ts';
import { isAnnealed, type RunSettings } from '../api/run-settings.ts';
import { SliderField } from '../components/slider-field.tsx';
import { formatPercent } from '../format/format.ts';
import {
  allocationWords,
  cutOffWords,
  precisionWords,
  privacyWords,
  robustWords,
  serverOptimiserWords,
  weightingWords,
} from '../format/words.ts';
import { choices, type SettingsFieldsProps } from './schedule-fields.tsx';

/** Settings by their paths that this screen shows a refusal at. */
export const advancedSettings = [
  ...['wire.up', 'wire.down', 'wire.errorFeedback', 'localHead', 'participation', 'weighting', 'quorum'],
  ...['privacy.at', 'privacy.clipNorm', 'privacy.noiseMultiplier', 'privacy.delta', 'robust.rule'],
  ...['robust.factor', 'robust.share', 'robust.byzantine', 'serverOptimiser.kind', 'allocation', 'cutOff'],
  'freezeA',
];

/** What most runs leave as it is: how numbers travel, who takes part, privacy and protection. */
export function AdvancedRunSettings(props: SettingsFieldsProps) {
  return (
    <Stack gap="md" mt="sm">
      <TravelFields {...props} />
      <PartFields {...props} />
      <PrivacyFields {...props} />
      <RobustFields {...props} />
      <MergingFields {...props} />
    </Stack>
  );
}

function Fields({ legend, children }: { legend: string; children: ReactNode }) {
  return (
    <Fieldset legend={legend}>
      <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="lg" verticalSpacing="sm">
        {children}
      </SimpleGrid>
    </Fieldset>
  );
}

function TravelFields({ values: { wire, localHead }, onChange, refused }: SettingsFieldsProps) {
  const precision = (direction: 'up' | 'down', label: string) => (
    <Select
      label={label}
      data={choices(precisionWords)}
      allowDeselect={false}
      value={wire[direction]}
      error={refused(`wire.${direction}`)}
      onChange={(value) => onChange({ wire: { ...wire, [direction]: value as WirePrecision } })}
    />
  );
  return (
    <Fields legend="What travels">
      {precision('up', 'Numbers from the sites')}
      {precision('down', 'Numbers to the sites')}
      <Switch
        label="Make up for rounding"
        description="What rounding took from an update is added to the site’s next one."
        checked={wire.errorFeedback}
        error={refused('wire.errorFeedback')}
        onChange={({ currentTarget: { checked } }) => onChange({ wire: { ...wire, errorFeedback: checked } })}
      />
      <Switch
        label="Each site keeps its own classifier"
        description="Fits each site better; it never travels."
        checked={localHead}
        error={refused('localHead')}
        onChange={({ currentTarget: { checked } }) => onChange({ localHead: checked })}
      />
    </Fields>
  );
}

function PartFields({ values, onChange, refused }: SettingsFieldsProps) {
  return (
    <Fields legend="Who takes part">
      <SliderField
        label="Sites that train in a round"
        value={values.participation}
        min={0.05}
        max={1}
        step={0.05}
        format={(share) => (share === 1 ? 'all' : formatPercent(share, 0))}
        error={refused('participation')}
        onChange={(participation) => onChange({ participation })}
      />
      <NumberInput
        label="Sites needed to close a round"
        placeholder="two thirds of them"
        min={1}
        allowDecimal={false}
        value={values.quorum ?? ''}
        error={refused('quorum')}
        // An emptied field is a text: the coordinator decides.
        onChange={(value) => onChange({ quorum: typeof value === 'number' ? value : undefined })}
      />
      <Select
        label="How much a site counts"
        data={choices(weightingWords)}
        allowDeselect={false}
        value={values.weighting}
        error={refused('weighting')}
        onChange={(value) => onChange({ weighting: value as RunSettings['weighting'] })}
      />
    </Fields>
  );
}

const firstPrivacy = { clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 };

function PrivacyFields({ values: { privacy }, onChange, refused }: SettingsFieldsProps) {
  const number = (
    field: 'clipNorm' | 'noiseMultiplier' | 'delta',
    label: string,
    step: number,
    least: number,
  ) =>
    privacy && (
      <NumberInput
        label={label}
        min={least}
        step={step}
        value={privacy[field]}
        error={refused(`privacy.${field}`)}
        onChange={(value) =>
          typeof value === 'number' && onChange({ privacy: { ...privacy, [field]: value } })
        }
      />
    );
  return (
    <Fields legend="Privacy noise">
      <Select
        label="Noise"
        description="Hides what a single site contributed; the run tells the ε that was spent."
        data={choices(privacyWords)}
        allowDeselect={false}
        value={privacy?.at ?? 'none'}
        error={refused('privacy.at')}
        onChange={(at) =>
          onChange(
            at === 'none'
              ? { privacy: null }
              : {
                  privacy: { ...firstPrivacy, ...privacy, at: at as PrivacySettings['at'] },
                  // Noise on the sum protects sites that all count alike.
                  ...(at === 'coordinator' ? { weighting: 'equal' as const } : {}),
                },
          )
        }
      />
      {number('clipNorm', 'Largest change of an update (L2 norm)', 0.1, 0.001)}
      {number('noiseMultiplier', 'Noise, as a multiple of it', 0.1, 0)}
      {number('delta', 'δ for which ε is told', 1e-6, 1e-12)}
    </Fields>
  );
}

const firstRobust: Record<RobustSettings['rule'], RobustSettings> = {
  mean: { rule: 'mean' },
  'norm-bound': { rule: 'norm-bound', factor: 2 },
  median: { rule: 'median' },
  'trimmed-mean': { rule: 'trimmed-mean', share: 0.2 },
  'multi-krum': { rule: 'multi-krum', byzantine: 1 },
};

function RobustFields({ values: { robust }, onChange, refused }: SettingsFieldsProps) {
  return (
    <Fields legend="Protection against wrong updates">
      <Select
        label="Rule"
        data={choices(robustWords)}
        allowDeselect={false}
        value={robust.rule}
        error={refused('robust.rule')}
        onChange={(rule) => onChange({ robust: firstRobust[rule as RobustSettings['rule']] })}
      />
      {robust.rule === 'norm-bound' && (
        <NumberInput
          label="Limit, as a multiple of the middle size"
          min={0.1}
          step={0.5}
          value={robust.factor}
          error={refused('robust.factor')}
          onChange={(value) =>
            typeof value === 'number' && onChange({ robust: { ...robust, factor: value } })
          }
        />
      )}
      {robust.rule === 'trimmed-mean' && (
        <SliderField
          label="Left out at each end"
          value={robust.share}
          min={0.05}
          max={0.45}
          step={0.05}
          format={(share) => formatPercent(share, 0)}
          error={refused('robust.share')}
          onChange={(share) => onChange({ robust: { ...robust, share } })}
        />
      )}
      {robust.rule === 'multi-krum' && (
        <NumberInput
          label="Wrong sites to withstand"
          min={1}
          allowDecimal={false}
          value={robust.byzantine}
          error={refused('robust.byzantine')}
          onChange={(value) =>
            typeof value === 'number' && onChange({ robust: { ...robust, byzantine: value } })
          }
        />
      )}
    </Fields>
  );
}

const firstServerOptimiser: Record<RunSettings['serverOptimiser']['kind'], RunSettings['serverOptimiser']> = {
  none: { kind: 'none' },
  momentum: { kind: 'momentum', learningRate: 1, beta: 0.9 },
  adam: { kind: 'adam', learningRate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 },
};

function MergingFields({ values, onChange, refused }: SettingsFieldsProps) {
  const { serverOptimiser } = values;
  return (
    <Fields legend="Merging">
      <Select
        label="Optimiser of the coordinator"
        data={choices(serverOptimiserWords)}
        allowDeselect={false}
        value={serverOptimiser.kind}
        error={refused('serverOptimiser.kind')}
        onChange={(kind) =>
          onChange({ serverOptimiser: firstServerOptimiser[kind as keyof typeof firstServerOptimiser] })
        }
      />
      {serverOptimiser.kind !== 'none' && (
        <NumberInput
          label="Its learning rate"
          min={0.0001}
          step={0.01}
          value={serverOptimiser.learningRate}
          onChange={(value) =>
            typeof value === 'number' &&
            onChange({ serverOptimiser: { ...serverOptimiser, learningRate: value } })
          }
        />
      )}
      <Select
        label="Ranks of single layers"
        data={choices(allocationWords)}
        allowDeselect={false}
        disabled={!isAnnealed(values)}
        value={values.allocation}
        error={refused('allocation')}
        onChange={(value) => onChange({ allocation: value as RunSettings['allocation'] })}
      />
      <Select
        label="Cut off when the rank falls"
        data={choices(cutOffWords)}
        allowDeselect={false}
        disabled={!isAnnealed(values)}
        value={values.cutOff}
        error={refused('cutOff')}
        onChange={(value) => onChange({ cutOff: value as RunSettings['cutOff'] })}
      />
      <Switch
        label="Train one factor of the adapter only"
        description="Factor A stays as drawn and never travels: less is sent, and noise does less harm."
        disabled={!isAnnealed(values)}
        checked={values.freezeA}
        error={refused('freezeA')}
        onChange={({ currentTarget: { checked } }) => onChange({ freezeA: checked })}
      />
    </Fields>
  );
}
