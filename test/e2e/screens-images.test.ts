/** What was set aside, the quality of the faces and near-duplicates, in a real browser. */
import { expect, test } from 'vitest';
import { open, page } from '../fixtures/screens-stand-in/screens-page.ts';

test('what was set aside is shown by the kind of its reason', async () => {
  await open('site', '/dataset/set-aside');
  const table = page.getByRole('table', { name: 'Images set aside' });
  await table.waitFor();
  await expect.poll(() => table.getByRole('row').count()).toBe(4);

  await page.getByLabel('Reason').selectOption('quality');

  await expect.poll(() => table.getByRole('row').count()).toBe(2);
  await table.getByText('the face is 38 pixels wide; at least 48 are asked for').waitFor();
});

test('the quality of the faces is sorted and filtered, and pairs are asked about', async () => {
  await open('site', '/dataset/quality');
  const pairs = page.getByRole('table', { name: 'Pictures that are nearly the same' });
  await pairs.getByText('Is this one person under two pseudonyms?').waitFor();
  const table = page.getByRole('table', { name: 'Quality of the faces' });
  const firstFile = () => table.getByRole('row').nth(1).getByRole('cell').first().textContent();

  await page.getByLabel('Order').selectOption('Smallest faces first');
  expect(await firstFile()).toBe('p0014-a.jpg');
  await page.getByLabel('Show').selectOption('set-aside');
  await expect.poll(() => table.getByRole('row').count()).toBe(2);

  await page.getByLabel('Show').selectOption('all');
  await page.getByLabel('Order').selectOption('As imported');
  await table.getByText('turned by 90°').waitFor();
  await table.getByText('first of 3 pages').waitFor();
});
