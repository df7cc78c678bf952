/** One Anneal per person and data folder: a second start shows the window of the first one and ends. */
import { app } from 'electron';

/**
 * @returns false when another instance runs already; it has been told and shows its window.
 * Must run before anything touches the data folder.
 */
export function claimSingleInstance(): boolean {
  return app.requestSingleInstanceLock();
}

/** @param show brings the running window to the front */
export function onSecondStart(show: () => void): void {
  app.on('second-instance', show);
}
