/** Packages that read the rarer formats: an installation may leave them out. */
import { createRequire } from 'node:module';
import { UnsupportedImage } from './raw-image.ts';

const require = createRequire(import.meta.url);

/**
 * @param what the kind of file, for instance "a HEIC photograph"
 * @throws UnsupportedImage that says how to get the package, when it is not installed
 */
export function optionalPackage<T>(name: string, what: string): T {
  try {
    return require(name) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    throw new UnsupportedImage(
      `${what}, and the optional package that reads it, "${name}", is not installed`,
      'Run "npm install --include=optional" in the folder of Anneal, or save the image as JPEG or PNG.',
    );
  }
}
