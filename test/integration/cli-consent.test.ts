/** `anneal consent record | withdraw | list` and the time of the site, as people type them. */
import { expect, test } from 'vitest';
import type { SubjectRow } from '../../core/api/contract.ts';
import { openCommandLine } from '../fixtures/command-line.ts';

const purpose = 'federated-training';

test('consents are recorded, shown and withdrawn purpose by purpose, and come back only by saying so', async () => {
  await using cli = openCommandLine();
  const anneal = async (...words: string[]) => cli.anneal('site', ...words, '--json');
  const answer = async <T>(...words: string[]): Promise<T> => {
    const { code, stdout } = await anneal(...words);
    expect(code, stdout).toBe(0);
    return JSON.parse(stdout) as T;
  };
  const record = ['consent', 'record', '--subject', 'P1', '--document', 'v1'];

  await answer('site', 'time-zone', 'Asia/Tokyo');
  const slip = await anneal(...record, '--purpose', purpose, '--from', '2026-01-01');
  expect(JSON.parse(slip.stdout)).toMatchObject({ error: { code: 'SUBJECT_UNKNOWN' } });
  const first = await answer<SubjectRow>(
    ...[...record, '--purpose', purpose, '--from', '2026-01-01', '--until', '2036-12-31'],
    ...['--given-by', 'guardian', '--verified-on', '2026-01-02', '--reference', 'form 7', '--new-subject'],
  );
  expect(first.consents).toMatchObject([
    {
      ...{ purpose, status: 'active', next: null, withdrawal: null },
      term: {
        ...{ firstDay: '2026-01-01', lastDay: '2036-12-31', until: '2036-12-31T15:00:00.000Z' },
        ...{ documentVersion: 'v1', givenBy: 'guardian', verifiedOn: '2026-01-02', reference: 'form 7' },
      },
    },
  ]);

  const withdrawn = await answer<SubjectRow>('consent', 'withdraw', '--subject', 'P1', '--purpose', purpose);
  expect(withdrawn.consents).toMatchObject([{ purpose, status: 'withdrawn', term: null }]);

  const today = withdrawn.consents[0]!.withdrawal!.validFrom;
  const again = [...record.slice(0, -1), 'v2', '--purpose', purpose, '--from', today];
  const refused = await anneal(...again);
  expect(refused.code).toBe(1);
  expect(JSON.parse(refused.stdout).error).toMatchObject({
    code: 'CONSENT_INVALID',
    message: expect.stringMatching(/^"P1" has withdrawn on \d{4}-\d\d-\d\d \(recorded by .+\)\.$/),
    action: expect.stringContaining('--after-withdrawal'),
  });
  await answer(...again, '--after-withdrawal', '--until', `${today.slice(0, 4)}-12-31`);

  const active = await answer<SubjectRow[]>('consent', 'list', '--status', 'active', '--purpose', purpose);
  expect(active.map((row) => [row.pseudonym, row.consents.length])).toEqual([['P1', 1]]);
  expect(await answer('consent', 'list', '--expiring', '400')).toMatchObject([{ pseudonym: 'P1', purpose }]);
}, 400_000);
