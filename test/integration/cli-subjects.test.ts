/** `anneal site correct` and `anneal consent document` as processes. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CommandLine, openCommandLine, writeImages } from '../fixtures/command-line.ts';

let cli: CommandLine;
/** With the images p0.png and p1.png, labelled `a`. */
const subject = 's0';

const pdf = '%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n';
const json = async (...args: string[]) => {
  const { stdout, code } = await cli.anneal('site', ...args, '--json');
  return { code, value: JSON.parse(stdout) };
};

beforeAll(async () => {
  cli = openCommandLine();
  await writeImages(cli.folder, { count: 6, labels: ['a', 'b'] });
  const imported = await json(
    ...['site', 'import', '--images', 'images', '--labels', 'labels.csv', '--already-cropped'],
  );
  expect(imported.code).toBe(0);
}, 120_000);
afterAll(() => cli[Symbol.asyncDispose]());

test('a label is corrected by file name; a question is answered with --yes alone', async () => {
  const correct = ['site', 'correct', subject, '--label', 'new-class', '--file', 'p0.png'];
  const asked = await json(...correct, '--reason', 'typing-error');
  expect(asked.code).toBe(1);
  expect(asked.value.error).toMatchObject({ code: 'CONFIRMATION_NEEDED' });

  const done = await json(...correct, '--reason', 'typing-error', '--yes');
  expect(done.value).toMatchObject({ changes: 1 });
  const again = await cli.anneal('site', ...correct, '--reason', 'other', '--note', 'once more');
  expect(again.stdout).toContain('Nothing to correct');
  const other = await json(
    ...['site', 'correct', subject, '--file', 'none.png', '--label', 'x', '--reason', 'typing-error'],
  );
  expect(other.value.error).toMatchObject({ code: 'NOT_FOUND' });
  const missing = await cli.anneal('site', 'site', 'correct', subject, '--label', 'x');
  expect(missing.code).toBe(1);
  expect(missing.stderr).toContain('--reason');
}, 120_000);

test('a scan is added, listed, saved as it was without overwriting anything, and removed', async () => {
  writeFileSync(join(cli.folder, 'form.pdf'), pdf);
  const added = await json('consent', 'document', 'add', subject, 'form.pdf');
  expect(added.value).toMatchObject({ mediaType: 'application/pdf', sizeBytes: pdf.length });
  const id = String(added.value.id);

  const listed = await json('consent', 'document', 'list', subject);
  expect(listed.value).toMatchObject([{ change: 'granted', scans: [{ id: added.value.id }] }]);

  const out = join(cli.folder, 'saved.pdf');
  expect((await json('consent', 'document', 'save', id, '--out', out)).code).toBe(0);
  expect(readFileSync(out, 'utf8')).toBe(pdf);
  if (process.platform !== 'win32') expect(statSync(out).mode & 0o777).toBe(0o600);
  const refused = await json('consent', 'document', 'save', id, '--out', out);
  expect(refused.value.error).toMatchObject({ code: 'FILE_EXISTS' });

  expect((await json('consent', 'document', 'remove', id)).value).toEqual({ removed: added.value.id });
  const gone = await json('consent', 'document', 'save', id, '--out', join(cli.folder, 'again.pdf'));
  expect(gone.value.error).toMatchObject({ code: 'NOT_FOUND' });
}, 120_000);
