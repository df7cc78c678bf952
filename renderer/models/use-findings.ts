/** What Anneal finds in a file: without any answer first, and with those that a person gives. */
import { useDebouncedValue } from '@mantine/hooks';
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { ImportOptions, ModelInspection, ModelQuestion } from '../../core/api/contract.ts';
import { api } from '../api/client.ts';
import { type ModelAnswers, optionsOf } from '../api/model-answers.ts';

/** A number that is being typed is looked at when it rests for this long. */
const restMs = 400;

export interface Findings {
  /** The newest; null when the file cannot be imported as things are. */
  finding: ModelInspection | null;
  /** All that was asked about this file, answered or not. */
  questions: readonly ModelQuestion[];
  error: unknown;
  /** Null while what is typed cannot be an answer. */
  options: ImportOptions | null;
  isLooking: boolean;
}

function useInspection(path: string, options: ImportOptions | null, enabled: boolean) {
  return useQuery<ModelInspection>({
    queryKey: ['model-file', path, options],
    // A file on this machine: looked at again only when somebody says something else about it.
    queryFn: ({ signal }) => api.models.inspect.mutate({ path, options: options ?? {} }, { signal }),
    enabled,
    retry: false,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
    refetchOnWindowFocus: false,
    placeholderData: keepPreviousData,
  });
}

export function useFindings(path: string, answers: ModelAnswers): Findings {
  const first = useInspection(path, null, true);
  const options = optionsOf(answers, first.data?.format ?? 'onnx');
  const [rested] = useDebouncedValue(options, restMs);
  const isSaid = rested !== null && Object.keys(rested).length > 0;
  // One after the other: each takes the memory of the network.
  const second = useInspection(path, rested, isSaid && !first.isFetching);
  const [asked, setAsked] = useState<readonly ModelQuestion[]>([]);
  const fresh = [...(first.data?.questions ?? []), ...(second.data?.questions ?? [])].filter(
    ({ about }, index, all) =>
      asked.every((known) => known.about !== about) &&
      all.findIndex((other) => other.about === about) === index,
  );
  if (fresh.length > 0) setAsked([...asked, ...fresh]);
  const newest = isSaid ? second : first;
  const isLooking =
    first.isFetching || second.isFetching || JSON.stringify(rested) !== JSON.stringify(options);
  return {
    finding: (newest.isError ? null : newest.data) ?? first.data ?? null,
    questions: asked,
    error: newest.error,
    options,
    isLooking,
  };
}
