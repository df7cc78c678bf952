import { Anchor, NativeSelect } from '@mantine/core';
import { Link } from 'wouter';
import type { ModelRow } from '../../core/api/contract.ts';
import { useModels } from '../api/queries.ts';
import { formatHash } from '../format/format.ts';
import { inputWords } from '../models/model-words.ts';

interface BaseFieldProps {
  /** Undefined: the default of the coordinator. */
  value: string | undefined;
  onChange: (baseId: string) => void;
}

/** The network that a run starts from, of those that are here. */
export function BaseField({ value, onChange }: BaseFieldProps) {
  const models = useModels().data?.models ?? [];
  const chosen = models.find(({ id }) => id === value) ?? (value === undefined ? models[0] : undefined);
  const isGone = value !== undefined && models.length > 0 && chosen === undefined;
  return (
    <NativeSelect
      label="Base model"
      inputWrapperOrder={['label', 'input', 'description', 'error']}
      description={
        <>
          {chosen === undefined ? '' : `${needs(chosen)} `}
          <Anchor component={Link} href="/models" size="xs">
            Use another network…
          </Anchor>
        </>
      }
      data={[
        ...models.map(({ id, inputSize }) => ({ value: id, label: `${id} (${inputWords(inputSize)})` })),
        ...(isGone ? [{ value, label: `${value} (not here any more)` }] : []),
      ]}
      value={chosen?.id ?? value ?? ''}
      error={isGone ? 'Choose a network that is here, or import this one again.' : undefined}
      onChange={(event) => onChange(event.currentTarget.value)}
    />
  );
}

/** What the sites have to have. */
const needs = ({ format, sha256 }: ModelRow): string =>
  format === 'built-in'
    ? 'It comes with Anneal: every site has it.'
    : `Each site imports the same file with the same answers; its identity there must be ${formatHash(sha256)} as well. A site without it says so and waits.`;
