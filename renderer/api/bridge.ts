/**
 * What the desktop shell's preload adds to the page. In a browser (`anneal serve`) it is absent and the
 * screens ask for typed paths instead.
 */

/** The file kinds that a native dialog offers, in Electron's words. */
export interface FileFilter {
  name: string;
  /** Without the dot, for instance `csv`. */
  extensions: string[];
}

export interface AnnealBridge {
  /** `linux`, `darwin` or `win32`. */
  readonly platform: string;
  /** Path of the chosen folder, or null when the dialog was closed. */
  chooseFolder(): Promise<string | null>;
  /** Path of the chosen file, or null when the dialog was closed. */
  chooseFile(filters: FileFilter[]): Promise<string | null>;
  /** Path of a file that is to be written, or null when the dialog was closed. */
  chooseNewFile(filters: FileFilter[]): Promise<string | null>;
  /** Tells the person, outside of the window, that a run asks for approval. */
  noticeApproval(): Promise<void>;
}

declare global {
  interface Window {
    anneal?: AnnealBridge;
  }
}

/** The bridge of the desktop shell, or null in a plain browser. */
export function desktopBridge(): AnnealBridge | null {
  return window.anneal ?? null;
}
