import {
  Alert,
  Autocomplete,
  Button,
  Checkbox,
  Group,
  Modal,
  NativeSelect,
  Radio,
  Stack,
  Text,
  Textarea,
} from '@mantine/core';
import { useForm } from '@mantine/form';
import { useDebouncedValue } from '@mantine/hooks';
import { IconQuestionMark } from '@tabler/icons-react';
import { type ReactNode, useState } from 'react';
import type { CorrectionQuestion, SubjectDetail } from '../../core/api/subject-contract.ts';
import {
  type CorrectionInput,
  type CorrectionReason,
  correctionReasons,
  maxCorrectionNote,
} from '../../core/config/correction.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useSubjects } from '../api/queries.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { formatPlural } from '../format/format.ts';

interface CorrectDialogProps {
  subject: SubjectDetail;
  /** Ids; all images when empty. */
  images: number[];
  onClose: () => void;
  onDone: () => void;
}

type What = 'label' | 'subject' | 'split';

const usualReason: Record<What, CorrectionReason> = {
  label: 'typing-error',
  subject: 'wrong-person',
  split: 'better-division',
};

/** A correction is an act of its own: it says what was wrong, and why. */
export function CorrectDialog({ subject, images, onClose, onDone }: CorrectDialogProps) {
  const { pseudonym } = subject;
  const form = useForm<CorrectValues>({
    initialValues: {
      what: 'label',
      label: '',
      subject: '',
      split: subject.images.test > 0 ? 'train' : 'test',
      reason: usualReason.label,
      note: '',
    },
    validate: {
      label: (label, { what }) =>
        what === 'label' && label.trim() === '' ? 'Give the label that is right.' : null,
      subject: (other, { what }) => {
        if (what !== 'subject') return null;
        if (other.trim() === '') return 'Give the pseudonym of the person whom the images show.';
        return other.trim() === pseudonym ? 'This is the subject that the images have now.' : null;
      },
      note: (note, { reason }) =>
        reason === 'other' && note.trim() === '' ? 'Describe the other reason.' : null,
    },
  });
  const [questions, setQuestions] = useState<CorrectionQuestion[]>([]);
  const [answered, setAnswered] = useState<readonly string[]>([]);
  const correct = useAction(
    async (values: CorrectValues) => {
      const asked = correctionOf(pseudonym, images, values);
      const review = await api.subjects.reviewCorrection.query(asked);
      const isAnswered = review.questions.every(({ kind }) => answered.includes(kind));
      setQuestions(review.questions);
      if (!isAnswered) return null;
      return api.subjects.correct.mutate({ ...asked, confirmed: review.questions.map(({ kind }) => kind) });
    },
    {
      changes: ['dataset', 'site', 'audit', 'trace'],
      ownErrors: true,
      onSuccess: (done) => {
        if (done !== null) onDone();
      },
    },
  );
  const set = (values: Partial<CorrectValues>) => {
    form.setValues(values);
    // What was asked about another choice is not answered for this one.
    setQuestions([]);
    setAnswered([]);
  };
  const open = questions.filter(({ kind }) => !answered.includes(kind)).length;
  return (
    <Modal opened onClose={onClose} title={titleOf(subject, images, form.values.what)}>
      <form noValidate onSubmit={form.onSubmit((values) => correct.mutate(values))}>
        <Stack>
          <WhatFields
            subject={subject}
            values={form.values}
            errors={{ label: form.errors['label'], subject: form.errors['subject'] }}
            onChange={set}
          />
          <NativeSelect
            label="Why"
            data={Object.entries(correctionReasons).map(([value, label]) => ({ value, label }))}
            {...form.getInputProps('reason')}
          />
          <Textarea
            label="Note (if any)"
            description="Kept here until the subject is erased. Name no person in it."
            maxLength={maxCorrectionNote}
            autosize
            minRows={2}
            {...form.getInputProps('note')}
          />
          <Questions questions={questions} answered={answered} onAnswer={setAnswered} />
          <Text size="sm" c="dimmed">
            Training that is using these images stops and starts again with the correction. What was trained
            before stays as it is.
          </Text>
          {correct.isError && <ErrorPanel error={correct.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={correct.isPending} disabled={open > 0}>
              Correct
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

interface CorrectValues {
  what: What;
  label: string;
  subject: string;
  split: 'train' | 'test';
  reason: CorrectionReason;
  note: string;
}

interface WhatFieldsProps {
  subject: SubjectDetail;
  values: CorrectValues;
  errors: { label?: ReactNode; subject?: ReactNode };
  onChange: (values: Partial<CorrectValues>) => void;
}

function WhatFields({ subject, values, errors, onChange: set }: WhatFieldsProps) {
  const { what, split } = values;
  return (
    <>
      <Radio.Group
        label="What is wrong?"
        value={what}
        onChange={(next) => set({ what: next as What, reason: usualReason[next as What] })}
      >
        <Stack gap={6} mt={6}>
          <Radio value="label" label="The label" data-autofocus />
          <Radio value="subject" label="The person: the images show another subject" />
          <Radio value="split" label="Training or held out" />
        </Stack>
      </Radio.Group>
      {what === 'label' && (
        <Autocomplete
          label="Right label"
          data={subject.labels}
          error={errors.label}
          value={values.label}
          onChange={(label) => set({ label })}
        />
      )}
      {what === 'subject' && (
        <SubjectField
          value={values.subject}
          error={errors.subject}
          without={subject.pseudonym}
          onChange={(other) => set({ subject: other })}
        />
      )}
      {what === 'split' && (
        <Radio.Group
          label="All images of this subject are"
          description="One person is never on both sides: what was learnt by heart would count as recognised."
          value={split}
          onChange={(next) => set({ split: next as 'train' | 'test' })}
        >
          <Group mt={6}>
            <Radio value="train" label="for training" />
            <Radio value="test" label="held out for checking" />
          </Group>
        </Radio.Group>
      )}
    </>
  );
}

interface SubjectFieldProps {
  value: string;
  error: ReactNode;
  without: string;
  onChange: (pseudonym: string) => void;
}

function SubjectField({ value, error, without, onChange }: SubjectFieldProps) {
  const [asked] = useDebouncedValue(value.trim(), 200);
  const found = useSubjects(asked).data ?? [];
  const names = found.map(({ pseudonym }) => pseudonym).filter((pseudonym) => pseudonym !== without);
  return (
    <Autocomplete
      label="Pseudonym of the right subject"
      description="A subject that is known here."
      data={names.slice(0, 20)}
      filter={({ options }) => options}
      error={error}
      value={value}
      onChange={onChange}
    />
  );
}

interface QuestionsProps {
  questions: readonly CorrectionQuestion[];
  answered: readonly string[];
  onAnswer: (answered: string[]) => void;
}

function Questions({ questions, answered, onAnswer }: QuestionsProps) {
  if (questions.length === 0) return null;
  return (
    <Alert
      color="yellow"
      icon={<IconQuestionMark aria-hidden />}
      title="Please look at this first"
      role="alert"
    >
      <Checkbox.Group value={[...answered]} onChange={onAnswer}>
        <Stack gap="xs">
          {questions.map(({ kind, words }) => (
            <Checkbox key={kind} value={kind} label={`${words} That is right.`} />
          ))}
        </Stack>
      </Checkbox.Group>
    </Alert>
  );
}

function correctionOf(
  pseudonym: string,
  images: number[],
  { what, label, subject, split, reason, note }: CorrectValues,
): CorrectionInput {
  return {
    pseudonym,
    reason,
    ...(note.trim() !== '' && { note: note.trim() }),
    ...(images.length > 0 && what !== 'split' && { images }),
    ...(what === 'label' && { label: label.trim() }),
    ...(what === 'subject' && { subject: subject.trim() }),
    ...(what === 'split' && { split }),
  };
}

function titleOf({ pseudonym, images: counts }: SubjectDetail, images: number[], what: What): string {
  const all = counts.train + counts.test + counts.setAside;
  const isAll = images.length === 0 || what === 'split';
  return `Correct ${isAll ? `all ${formatPlural(all, 'image')}` : formatPlural(images.length, 'image')} of ${pseudonym}`;
}
