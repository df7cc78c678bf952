import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openCommandLine } from '../fixtures/command-line.ts';
import { broadConsent, bundleOf, trainingCode } from '../fixtures/fhir-consents.ts';

/** Two subjects, recorded by hand. */
async function openSite() {
  const line = openCommandLine();
  const anneal = async (...args: string[]) => {
    const outcome = await line.anneal('site', ...args);
    return { ...outcome, json: () => JSON.parse(outcome.stdout) };
  };
  for (const subject of ['p1', 'p2']) {
    const said = ['--purpose', 'teaching', '--document', 'v1', '--from', '2026-01-01', '--new-subject'];
    expect((await anneal('consent', 'record', '--subject', subject, ...said)).code).toBe(0);
  }
  return { folder: line.folder, anneal, [Symbol.asyncDispose]: () => line[Symbol.asyncDispose]() };
}

describe('anneal consent import and export', () => {
  test('a Bundle is looked at, imported, exported and imported again, with the codes of the site remembered', async () => {
    await using site = await openSite();
    const file = join(site.folder, 'consents.json');
    writeFileSync(file, JSON.stringify(bundleOf([broadConsent({ dateTime: '2026-01-02' })])));
    const map = ['--purpose-map', `${trainingCode}=federated-training`];

    const preview = await site.anneal('consent', 'import', file, ...map, '--preview', '--json');
    const unmapped = await site.anneal('consent', 'import', file, '--json');
    const imported = await site.anneal('consent', 'import', file, ...map, '--json');
    const out = join(site.folder, 'out.ndjson');
    const exported = await site.anneal('consent', 'export', out, '--ndjson', '--json');
    const taken = await site.anneal('consent', 'export', out, '--json');
    const again = await site.anneal('consent', 'import', out);

    expect(preview.json()).toMatchObject({ recorded: ['p1'], problems: [] });
    // The preview has recorded nothing, the mapping neither.
    expect(unmapped.json()).toMatchObject({ recorded: [], notUsed: [{ subject: 'p1' }] });
    expect(imported.json()).toMatchObject({ recorded: ['p1'] });
    expect(exported.json()).toEqual({ subjects: 2, consents: 3, asRead: 1 });
    expect(statSync(out).mode & 0o777).toBe(0o600);
    expect(readFileSync(out, 'utf8')).toContain('"id":"broad-1"');
    expect(taken.json()).toMatchObject({ error: { code: 'FILE_EXISTS' } });
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(again.stdout).toContain('3 consents read.');
    expect(again.stdout).not.toContain('Recorded');
  }, 240_000);

  test('a file with problems ends with 1 and says all of them, without a path', async () => {
    await using site = await openSite();
    const file = join(site.folder, 'consents.json');
    const stranger = broadConsent({
      id: 's',
      identifier: undefined,
      patient: { reference: 'Patient/stranger' },
    });
    writeFileSync(
      file,
      JSON.stringify(bundleOf([broadConsent({ status: 'x' }), broadConsent({ scope: undefined }), stranger])),
    );

    const refused = await site.anneal('consent', 'import', file);
    const missing = await site.anneal('consent', 'import', join(site.folder, 'no.json'));
    const mapping = await site.anneal('consent', 'import', file, '--purpose-map', 'nonsense');

    expect(refused.code).toBe(1);
    expect(refused.stdout).toMatch(/Problem: entry 1 .*\n.*Problem: entry 2/);
    expect(refused.stdout).toContain('No such subject here; none was made: stranger.');
    expect(missing).toMatchObject({ code: 1, stdout: '' });
    expect(missing.stderr).not.toContain(site.folder);
    expect(mapping.stderr).toContain('CODE=purpose');
  }, 240_000);

  test('a table is known by its content, whatever its name; unknown subjects are listed', async () => {
    await using site = await openSite();
    const file = join(site.folder, 'withdrawals.json');
    writeFileSync(
      file,
      'subject;consent;consent_purpose\np1;withdrawn;teaching\nstranger;withdrawn;teaching\n',
    );

    const preview = await site.anneal('consent', 'import', file, '--preview', '--json');
    const imported = await site.anneal('consent', 'import', file, '--json');
    const mixed = await site.anneal(
      'consent',
      'import',
      file,
      '--patient-id',
      '--identifier-system',
      'urn:x',
    );

    expect(preview.json()).toMatchObject({ kind: 'consents', consents: { withdrawn: 1 } });
    expect(imported.json()).toMatchObject({ withdrawn: ['p1'], unknown: ['stranger'] });
    expect(mixed).toMatchObject({ code: 1, stdout: '' });
    expect(mixed.stderr).toContain('These are options for FHIR, and the file is a table.');
  }, 240_000);
});
