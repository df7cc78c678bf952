import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { launchBrowser, watchPage } from '../fixtures/browser.ts';
import { startStandIn } from '../fixtures/screens-stand-in/server.ts';

await build({
  configFile: fileURLToPath(new URL('../../renderer/vite.config.ts', import.meta.url)),
  logLevel: 'error',
  build: { outDir: '/tmp/shots/dist', emptyOutDir: true },
});
const browser = await launchBrowser();
for (const scheme of ['light', 'dark'] as const) {
  const standIn = await startStandIn({ screensFolder: '/tmp/shots/dist', mode: 'coordinator' });
  Object.assign(standIn.state.coordinator, { current: null, runs: [] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: scheme });
  page.setDefaultTimeout(120_000);
  const watch = watchPage(page, standIn.url);
  await page.goto(`${standIn.url}#/`);
  await page.getByRole('region', { name: 'Plan a run' }).waitFor();
  await page.waitForTimeout(3000);
  await page.screenshot({ path: `/tmp/shots/plan-${scheme}.png`, fullPage: true });
  await page.getByRole('button', { name: 'Advanced settings' }).click();
  await page.waitForTimeout(3000);
  await page.screenshot({ path: `/tmp/shots/advanced-${scheme}.png`, fullPage: true });
  console.log(scheme, watch.complaints);
  await page.close();
  await standIn[Symbol.asyncDispose]();
}
await browser.close();
