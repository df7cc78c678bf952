/**
 * What the desktop shell gives to the screens as `window.anneal`. In a plain browser it is absent.
 * The screens import these types only; the channel names are for the preload script and the main process.
 */

/** One entry of the file dialog's type list, for example `{ name: 'Tables', extensions: ['csv'] }`. */
export interface FileFilter {
  name: string;
  /** Without the dot. */
  extensions: string[];
}

export interface AnnealBridge {
  /** The operating system, in Node's words. */
  readonly platform: string;
  /** Asks for a folder; gives its path, or null when the person cancelled. */
  chooseFolder(): Promise<string | null>;
  /** Asks for one file; gives its path, or null when the person cancelled. */
  chooseFile(filters: FileFilter[]): Promise<string | null>;
  /** Asks where a file is to be written; gives its path, or null when the person cancelled. Nothing is written by that. */
  chooseNewFile(filters: FileFilter[]): Promise<string | null>;
  /** Tells the person, outside of the window, that a run asks for approval; the words are the shell's own. */
  noticeApproval(): Promise<void>;
}

export const bridgeChannels = {
  chooseFolder: 'anneal:choose-folder',
  chooseFile: 'anneal:choose-file',
  chooseNewFile: 'anneal:choose-new-file',
  noticeApproval: 'anneal:notice-approval',
} as const;
