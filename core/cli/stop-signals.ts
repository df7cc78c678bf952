/** Ctrl-C and SIGTERM for commands that clean up before they end. */

/**
 * One Ctrl-C may arrive twice: the terminal sends it to the whole group, and npm passes it on. A signal this long
 * after the first is meant as one.
 */
const sameKeyPressMs = 1_000;

/** What a shell makes of a command that Ctrl-C ended. */
export const interruptedExitCode = 130;

/**
 * Calls `stop` at the first Ctrl-C or SIGTERM; another one later on ends the process at once.
 *
 * Listeners stay for both: log-update brings one of its own that ends the process by the signal when it finds no
 * other, and a listener that is called once is gone by then.
 * @returns stops listening
 */
export function onStopSignal(stop: () => void): () => void {
  let firstMs: number | undefined;
  const listener = () => {
    if (firstMs === undefined) {
      firstMs = performance.now();
      stop();
    } else if (performance.now() - firstMs >= sameKeyPressMs) {
      process.exit(interruptedExitCode);
    }
  };
  process.on('SIGINT', listener).on('SIGTERM', listener);
  return () => {
    process.off('SIGINT', listener).off('SIGTERM', listener);
  };
}
