import { Group, NativeSelect, Stack, TextInput } from '@mantine/core';
import type { ModelInspection, ModelQuestion } from '../../core/api/contract.ts';
import { alignments, describeAlignment } from '../../core/config/alignment.ts';
import { describeChannelOrder, pixelRecipes } from '../../core/config/preprocessing.ts';
import { chooseRecipe, type ModelAnswers, ownNumbers, readChannels } from '../api/model-answers.ts';
import { Disclosure } from '../components/disclosure.tsx';

interface AnswerProps {
  answers: ModelAnswers;
  onChange: (answers: ModelAnswers) => void;
}

interface ModelQuestionsProps extends AnswerProps {
  questions: readonly ModelQuestion[];
  /** The order of the colours can be chosen for this format. */
  hasOrder: boolean;
}

const choose = { value: '', label: 'Choose…' };

/** Only what was asked; nothing is chosen before a person chooses it. */
export function ModelQuestions({ questions, hasOrder, ...props }: ModelQuestionsProps) {
  return questions.map((question) => {
    switch (question.about) {
      case 'pixels':
        return (
          <PixelFields
            key="pixels"
            {...props}
            description="The file does not say it, and a wrong answer makes results worse without a word: see the description of the network."
            hasOrder={hasOrder}
          />
        );
      case 'range':
        return (
          <PixelFields
            key="range"
            {...props}
            description={`The file changes its pixels itself (${question.operators.join(', ')}), but that does not tell which values it takes.`}
            hasOrder={false}
          />
        );
      case 'imageSize':
        return <SizeField key="imageSize" {...props} />;
      case 'output':
        return <OutputField key="output" {...props} choices={question.choices} />;
      default:
        return <PoolingField key="pooling" {...props} choices={question.choices} />;
    }
  });
}

function PixelFields({
  answers,
  onChange,
  description,
  hasOrder,
  none = choose.label,
}: AnswerProps & { description: string; hasOrder: boolean; none?: string }) {
  return (
    <Stack gap="sm">
      <NativeSelect
        label="How its pixels are normalised"
        description={description}
        data={[
          { value: '', label: none },
          ...pixelRecipes.map(({ id, label }) => ({ value: id, label })),
          { value: ownNumbers, label: 'Other numbers…' },
        ]}
        value={answers.recipe}
        onChange={(event) => onChange(chooseRecipe(answers, event.currentTarget.value))}
      />
      {answers.recipe === ownNumbers && <OwnNumbers {...{ answers, onChange }} />}
      {hasOrder && answers.recipe !== '' && (
        <OrderField
          {...{ answers, onChange }}
          none={choose.label}
          description="Most networks take red first."
        />
      )}
    </Stack>
  );
}

function OwnNumbers({ answers, onChange }: AnswerProps) {
  const fault = (text: string) =>
    text === '' || readChannels(text) !== null ? undefined : 'One number, or three with commas between them.';
  const isTooSmall = (readChannels(answers.deviation) ?? []).some((value) => value <= 0);
  return (
    <Group grow align="flex-start">
      <NativeSelect
        label="Numbers are of pixels of"
        data={[choose, { value: '1', label: '0 to 1' }, { value: '255', label: '0 to 255' }]}
        value={answers.range}
        onChange={(event) =>
          onChange({ ...answers, range: event.currentTarget.value as ModelAnswers['range'] })
        }
      />
      <TextInput
        label="Mean"
        placeholder="0.5, 0.5, 0.5"
        value={answers.mean}
        error={fault(answers.mean)}
        onChange={(event) => onChange({ ...answers, mean: event.currentTarget.value })}
      />
      <TextInput
        label="Standard deviation"
        placeholder="0.5, 0.5, 0.5"
        value={answers.deviation}
        error={isTooSmall ? 'Numbers above 0.' : fault(answers.deviation)}
        onChange={(event) => onChange({ ...answers, deviation: event.currentTarget.value })}
      />
    </Group>
  );
}

function OrderField({
  answers,
  onChange,
  none,
  description,
}: AnswerProps & { none: string; description: string }) {
  return (
    <NativeSelect
      label="Order of the colours"
      description={description}
      data={[
        { value: '', label: none },
        ...(['rgb', 'bgr'] as const).map((order) => ({ value: order, label: describeChannelOrder(order) })),
      ]}
      value={answers.channelOrder}
      onChange={(event) =>
        onChange({ ...answers, channelOrder: event.currentTarget.value as ModelAnswers['channelOrder'] })
      }
    />
  );
}

function SizeField({ answers, onChange }: AnswerProps) {
  const side = Number(answers.imageSize);
  const isFine = answers.imageSize === '' || (Number.isInteger(side) && side > 0 && side <= 4096);
  return (
    <TextInput
      label="Side of its image in pixels"
      description="The file takes images of any size. ArcFace networks take 112."
      inputMode="numeric"
      placeholder="112"
      value={answers.imageSize}
      error={isFine ? undefined : 'A whole number of pixels, at most 4096.'}
      onChange={(event) => onChange({ ...answers, imageSize: event.currentTarget.value.trim() })}
    />
  );
}

function OutputField({ answers, onChange, choices }: AnswerProps & { choices: readonly string[] }) {
  return (
    <NativeSelect
      label="Which of its outputs is the embedding"
      description="The numbers that stand for a face, not classes or scores."
      data={[choose, ...choices]}
      value={answers.output}
      onChange={(event) => onChange({ ...answers, output: event.currentTarget.value })}
    />
  );
}

const poolingWords = { class: 'The class token', first: 'The first token (class token)', mean: 'The mean' };

function PoolingField({
  answers,
  onChange,
  choices,
}: AnswerProps & { choices: readonly ('class' | 'first' | 'mean')[] }) {
  return (
    <NativeSelect
      label="What becomes the embedding"
      description="The network gives many numbers for each part of the image."
      data={[choose, ...choices.map((value) => ({ value, label: poolingWords[value] }))]}
      value={answers.pooling}
      onChange={(event) =>
        onChange({ ...answers, pooling: event.currentTarget.value as ModelAnswers['pooling'] })
      }
    />
  );
}

interface OtherSettingsProps extends AnswerProps {
  finding: ModelInspection | null;
  questions: readonly ModelQuestion[];
  /** Open, since something in it has to be changed. */
  forced: boolean;
}

/** What has a sensible value, or was assumed. */
export function OtherSettings({ answers, onChange, finding, questions, forced }: OtherSettingsProps) {
  const isAsked = (about: ModelQuestion['about']) => questions.some((question) => question.about === about);
  const isOnnx = finding === null || finding.format === 'onnx';
  return (
    <Disclosure label="Name, licence and what was assumed" forced={forced}>
      {() => (
        <Stack gap="sm" mt="sm">
          <TextInput
            label="Name here"
            description="Small letters, digits, dots and dashes. Sites may call the same network differently."
            placeholder={finding?.id ?? ''}
            maxLength={64}
            value={answers.id}
            error={
              finding?.idTaken === true && (answers.id === '' || answers.id === finding.id)
                ? `Another network is called “${finding.id}” here.`
                : undefined
            }
            onChange={(event) => onChange({ ...answers, id: event.currentTarget.value })}
          />
          <TextInput
            label="Licence of its weights"
            description="At the coordinator: it stands on the letter of each run."
            placeholder={finding?.licence ?? 'not stated'}
            maxLength={200}
            value={answers.licence}
            onChange={(event) => onChange({ ...answers, licence: event.currentTarget.value })}
          />
          <NativeSelect
            label="How a face is cut out"
            data={[
              { value: '', label: 'As assumed' },
              ...alignments.map((value) => ({ value, label: describeAlignment(value) })),
            ]}
            value={answers.alignment}
            onChange={(event) =>
              onChange({ ...answers, alignment: event.currentTarget.value as ModelAnswers['alignment'] })
            }
          />
          {!isAsked('pixels') && !isAsked('range') && (
            <PixelFields
              {...{ answers, onChange }}
              description="Only if the description of the network says something else than the file."
              none="As recognised"
              hasOrder={false}
            />
          )}
          {isOnnx && !isAsked('pixels') && (
            <OrderField
              {...{ answers, onChange }}
              none="As recognised or assumed"
              description="Only if the description of the network says another one."
            />
          )}
          {isOnnx && !isAsked('output') && (
            <TextInput
              label="Value that is the embedding (--output)"
              description="Only if it is not what the network ends with."
              spellCheck={false}
              value={answers.output}
              onChange={(event) => onChange({ ...answers, output: event.currentTarget.value })}
            />
          )}
        </Stack>
      )}
    </Disclosure>
  );
}
