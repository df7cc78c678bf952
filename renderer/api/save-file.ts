/** Hands a file of the agent to the person's own folder of downloads. */
import { bytesOf } from './base64.ts';

export interface SavedFile {
  name: string;
  mediaType: string;
  base64: string;
}

export function saveFile({ name, mediaType, base64 }: SavedFile): void {
  const url = URL.createObjectURL(new Blob([bytesOf(base64)], { type: mediaType }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken the file by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
