/** What the rest of the code logs with; core/agent gives it a file. Never log names, pseudonyms, tokens or file paths of photographs. */
export interface Logger {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

/** For tests and for tools that print by other means. */
export const silentLogger: Logger = { info() {}, warn() {}, error() {} };
