/** Renders build/icons/icon.svg to the PNG sizes that packages need. Run it after the drawing changed. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';

const folder = fileURLToPath(new URL('icons', import.meta.url));
const sizes = [16, 32, 48, 64, 128, 256, 512, 1024];

for (const size of sizes) {
  const density = (72 * size) / 512; // Draws at the final size instead of scaling pixels.
  await sharp(join(folder, 'icon.svg'), { density: Math.max(density, 1) })
    .resize(size, size)
    .png({ compressionLevel: 9, palette: true })
    .toFile(join(folder, `${size}x${size}.png`));
}
