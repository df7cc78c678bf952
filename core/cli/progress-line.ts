/** One line at the bottom of the terminal that says what is being done. */

export interface ProgressLine {
  show(text: string): void;
  clear(): void;
}

interface Output {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** Writes to terminals only: in a log the line would come again and again. */
export function createProgressLine(output: Output): ProgressLine {
  const write = (text: string): void => {
    if (output.isTTY === true) output.write(`\r\u001b[K${text}`);
  };
  return {
    show: (text) => write(text.slice(0, (output.columns ?? 80) - 1)),
    clear: () => write(''),
  };
}
