import { fileURLToPath } from 'node:url';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const folder = fileURLToPath(new URL('.', import.meta.url));

/** The screens as static files for `app://` and for `anneal serve`; relative paths serve both. */
export default defineConfig({
  root: folder,
  base: './',
  plugins: [react()],
  build: {
    outDir: '../dist/renderer',
    emptyOutDir: true,
    // Chromium of the pinned Electron and the browsers that hospitals keep for two years.
    target: ['chrome120', 'firefox121', 'safari17'],
    // data: URLs would need a hole in the content security policy.
    assetsInlineLimit: 0,
    // One local read each; the figure that matters is reported by `build:renderer`, not a warning.
    chunkSizeWarningLimit: 1500,
  },
});
