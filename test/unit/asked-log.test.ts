/** What a coordinator asks for is in the audit trail, however much it asks. */
import { expect, test } from 'vitest';
import { createAskedLog, maxAsked } from '../../core/site/asked-log.ts';
import { openTestStore } from '../fixtures/store.ts';

test('each thing once; where it becomes too much the trail says so, once, and grows no more', () => {
  using opened = openTestStore();
  const { audit } = opened.store;
  const log = createAskedLog(opened.store);

  for (let time = 0; time < 3; time++)
    for (let index = 0; index < maxAsked + 5; index++)
      log.write(`run ${index}`, 'manifest-refused', { runId: `run ${index}` });

  const rows = audit.page({ limit: 2 * maxAsked });
  expect(rows).toHaveLength(maxAsked + 1);
  expect(rows[0]).toMatchObject({ action: 'requests-not-listed', details: { after: maxAsked } });
  expect(rows[1]).toMatchObject({ action: 'manifest-refused', details: { runId: `run ${maxAsked - 1}` } });
});
