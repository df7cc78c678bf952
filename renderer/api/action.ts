/** Something that a person asked for: runs it, asks again what it changed, says how it ended. */
import { notifications } from '@mantine/notifications';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { toReport } from './errors.ts';
import type { KeyWord } from './queries.ts';

interface ActionOptions<Result> {
  /** First words of the query keys that the action changes. */
  changes: readonly KeyWord[];
  /** Shown for a few seconds when it worked. */
  success?: (result: Result) => string;
  onSuccess?: (result: Result) => void;
  /** The screen shows the error itself, next to what caused it. */
  ownErrors?: boolean;
}

export function useAction<Input, Result>(
  run: (input: Input) => Promise<Result>,
  options: ActionOptions<Result>,
) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: run,
    onSuccess: async (result) => {
      if (options.success) notifications.show({ message: options.success(result), color: 'green' });
      options.onSuccess?.(result);
      await Promise.all(options.changes.map((key) => queries.invalidateQueries({ queryKey: [key] })));
    },
    onError: (error) => {
      if (options.ownErrors) return;
      const report = toReport(error);
      notifications.show({
        title: report.message,
        message: report.action,
        color: 'red',
        autoClose: 15_000,
      });
    },
  });
}
