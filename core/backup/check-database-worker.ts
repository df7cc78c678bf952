/** Worker thread of check-database.ts: one file, one answer. */
import { parentPort, workerData } from 'node:worker_threads';
import { z } from 'zod';
import { toAppError } from '../shared/errors.ts';
import { openStore } from '../store/store.ts';
import type { databaseCheckSchema } from './check-database.ts';

function answer(file: string): z.input<typeof databaseCheckSchema> {
  try {
    // Opening it runs quick_check.
    const store = openStore(file, { durability: 'process' });
    try {
      const { brokenAtSeq, brokenConsent, rows, head } = store.audit.verify();
      const held = [...store.blobReferences.allHeld()];
      const consentsFit = brokenConsent === null;
      return { kind: 'checked', brokenAtSeq, consentsFit, auditRows: rows, auditHead: head, held };
    } finally {
      store.close();
    }
  } catch (thrown) {
    return { kind: 'failed', error: toAppError(thrown).toReport() };
  }
}

parentPort?.postMessage(answer(z.string().parse(workerData)));
