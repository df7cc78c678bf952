/** How much room a file system has, for unprivileged users of it, as Anneal is one. */
import { statfsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';

const inBytes = ({ bavail, bsize }: { bavail: number; bsize: number }): number => bavail * bsize;

/** Bytes free where this folder lies. @throws the system's error */
export const freeBytes = async (folder: string): Promise<number> => inBytes(await statfs(folder));

/** {@link freeBytes}, for what cannot wait. */
export const freeBytesNow = (folder: string): number => inBytes(statfsSync(folder));
