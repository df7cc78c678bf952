import {
  Button,
  Group,
  Modal,
  NumberInput,
  SimpleGrid,
  Stack,
  TagsInput,
  Text,
  TextInput,
} from '@mantine/core';
import { useForm } from '@mantine/form';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { decisionChanges, waitsForSecond } from './decision-changes.ts';
import { faultsOf, initialLimits, type LimitsForm, limitFields, writtenLimits } from './limits.ts';

/** Approves the run of the letter, and later ones that ask for no more than these limits. */
export function LimitsDialog({ card, onClose }: { card: ApprovalCard; onClose: () => void }) {
  const form = useForm<LimitsForm>({
    initialValues: initialLimits(card.limits),
    validate: (values) => faultsOf(values, card.limits),
  });
  const { contractSha256 } = card;
  const approve = useAction(
    (values: LimitsForm) => api.site.approve.mutate({ contractSha256, limits: writtenLimits(values) }),
    {
      changes: decisionChanges,
      success: ({ proposed }) =>
        proposed === null
          ? 'Approved within these limits. Training starts with the next round.'
          : waitsForSecond,
      onSuccess: onClose,
      ownErrors: true,
    },
  );
  return (
    <Modal opened onClose={onClose} title="Approve within these limits" size="xl">
      <form noValidate onSubmit={form.onSubmit((values) => approve.mutate(values))}>
        <Stack>
          <Text size="sm">
            Later runs that stay within these limits train without asking you again. A later run may ask for
            less, never for more; everything else must be exactly as in this letter. Otherwise you are asked.
          </Text>
          <Scope form={form} />
          <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="lg" verticalSpacing="sm">
            {limitFields.map(({ key, label, direction, means }) => (
              <NumberInput
                key={key}
                label={label}
                description={`This run: ${card.limits[key]}. ${means}`}
                inputWrapperOrder={['label', 'input', 'description', 'error']}
                min={direction === 'up' ? card.limits[key] : 1}
                {...(direction === 'down' && { max: card.limits[key] })}
                allowDecimal={key === 'clipNorm'}
                disabled={key === 'clipNorm' && card.limits.clipNorm === 0}
                {...form.getInputProps(key)}
                onChange={(value) => typeof value === 'number' && form.setFieldValue(key, value)}
              />
            ))}
          </SimpleGrid>
          <TagsInput
            label="Classes"
            description="A later run may leave classes out. Add those that it may have besides."
            inputWrapperOrder={['label', 'input', 'description', 'error']}
            splitChars={[',', ';']}
            {...form.getInputProps('classes')}
          />
          {approve.isError && <ErrorPanel error={approve.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={approve.isPending}>
              Approve within these limits
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

/** How many runs, and until when. */
function Scope({
  form,
}: {
  form: Pick<ReturnType<typeof useForm<LimitsForm>>, 'getInputProps' | 'setFieldValue'>;
}) {
  return (
    <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="lg" verticalSpacing="sm">
      <NumberInput
        label="Runs"
        description="This one included."
        inputWrapperOrder={['label', 'input', 'description', 'error']}
        min={1}
        max={1000}
        allowDecimal={false}
        {...form.getInputProps('runs')}
        onChange={(value) => typeof value === 'number' && form.setFieldValue('runs', value)}
      />
      <TextInput
        type="date"
        label="Last day (if any)"
        description="After this day you are asked again."
        inputWrapperOrder={['label', 'input', 'description', 'error']}
        {...form.getInputProps('lastDay')}
      />
    </SimpleGrid>
  );
}
