/**
 * The one error class that reaches people, with a closed table of codes.
 * Every code has a page under docs/errors/ with the same name.
 */
import { z } from 'zod';

/** What each code means over HTTP and what the reader should do by default. */
export const errorTable = {
  CSV_MISSING: { status: 404, action: 'Check the path of the CSV file and that you may read it.' },
  CSV_MALFORMED: { status: 400, action: 'Correct that line of the CSV file and import it again.' },
  IMPORT_UNCONFIRMED: { status: 409, action: 'Look at the preview of the import, and answer what it asks.' },
  LABEL_UNKNOWN: {
    status: 400,
    action: 'Use a label of this federation, or ask the coordinator to add this one.',
  },
  IMAGE_UNREADABLE: {
    status: 400,
    action: 'Open the file in a viewer; if it shows the photograph, save it again as JPEG or PNG.',
  },
  IMAGE_UNSUPPORTED: { status: 400, action: 'Save the image as JPEG or PNG and import again.' },
  IMAGE_TOO_LARGE: { status: 400, action: 'Scale the image down and import again.' },
  IMAGES_MISSING: { status: 404, action: 'Check the image folder and the file names in the CSV file.' },
  POLICY_REFUSED: {
    status: 409,
    action: 'Ask the coordinator to plan the run by the policy of this site, or change the policy here.',
  },
  POLICY_CHANGED: {
    status: 409,
    action: 'Look at the policy on its screen and save it again; until then this site takes part in no run.',
  },
  CONTRACT_BROKEN: {
    status: 409,
    action: 'Nothing left this site. Tell the coordinator; if it cannot explain this, leave the federation.',
  },
  NOT_ENOUGH_DATA: { status: 409, action: 'Import more consented images before joining a round.' },
  CONSENT_INACTIVE: { status: 409, action: 'Record an active consent for the subject first.' },
  CONSENT_INVALID: { status: 400, action: 'Correct the consent record and try again.' },
  SUBJECT_ERASED: {
    status: 409,
    action:
      'Was it erased at the wish of this person, do not import it again. If it is to come back, say so with --again.',
  },
  CONSENTS_CHANGED: {
    status: 409,
    action:
      'This site trains on nothing. Run "anneal audit verify" to see which consent differs, and restore the data folder from a backup.',
  },
  CLOCK_RAN_BACK: {
    status: 409,
    action:
      'This site trains on nothing until then. Set the clock right; if it is right now and was wrong before, an administrator confirms it with "anneal site confirm-clock".',
  },
  CLOCK_DIFFERS: {
    status: 409,
    action:
      'Compare the clock of this computer with one that is right, and let it follow a time server. Rounds go on meanwhile.',
  },
  SITE_RESTORED: {
    status: 409,
    action:
      'Record again what was recorded since then, withdrawals first. Then an approver confirms it with "anneal site confirm-restore" or on the overview; until then this site takes part in nothing.',
  },
  SITE_CLONED: {
    status: 409,
    action:
      'Stop Anneal on the computer that is not to be this site, and delete the copied data folder there. If nobody here has copied it, tell the coordinator: the keys may be stolen.',
  },
  COORDINATOR_RESTORED: {
    status: 409,
    action: 'Nothing to do: the run goes on by itself. Ask the coordinator if it did not restore anything.',
  },
  EVIDENCE_INVALID: {
    status: 422,
    action: 'Ask who gave you the bundle for a new copy; if it fails again, do not rely on it, and say why.',
  },
  FHIR_INVALID: {
    status: 400,
    action: 'Export the consents again as FHIR R4 JSON (a Bundle or NDJSON) and import that file.',
  },
  FILE_UNREADABLE: { status: 404, action: 'Check the path of the file and that you may read it.' },
  FILE_EXISTS: { status: 409, action: 'Choose another name, or add --force to replace the file.' },
  BACKUP_UNREADABLE: {
    status: 422,
    action: 'Take another backup, and check the disk that this one lies on. Nothing was changed.',
  },
  PASSPHRASE_WRONG: {
    status: 403,
    action: 'Type the passphrase that this backup was made with. Without it nobody can open the file.',
  },
  DATA_FOLDER_NOT_EMPTY: {
    status: 409,
    action:
      'Stop Anneal and rename that folder, for instance by adding ".old" to its name; then restore again. Keep it until the restored Anneal runs.',
  },
  SUBJECT_UNKNOWN: { status: 404, action: 'Check the pseudonym in the dataset list.' },
  DOCUMENT_UNUSABLE: {
    status: 400,
    action: 'Save the scan as PDF, JPEG or PNG of at most 10 MB, and attach that file.',
  },
  CONFIRMATION_NEEDED: { status: 409, action: 'Look at what the message names, and confirm it.' },
  INVITATION_INVALID: {
    status: 400,
    action: 'Ask the coordinator for a new invitation and paste all of it.',
  },
  INVITATION_USED: { status: 409, action: 'Ask the coordinator for a new invitation.' },
  INVITATION_EXPIRED: { status: 410, action: 'Ask the coordinator for a new invitation.' },
  NOT_JOINED: { status: 409, action: 'Join a federation with an invitation first.' },
  ALREADY_JOINED: {
    status: 409,
    action: 'This installation has already joined. Use another data folder for another site.',
  },
  BROKER_UNREACHABLE: {
    status: 503,
    action: 'Check the network and make sure that the coordinator is running. Anneal keeps trying.',
  },
  BROKER_REFUSED: { status: 403, action: 'Ask the coordinator whether this site is still enrolled.' },
  SITE_DISMISSED: {
    status: 403,
    action:
      'Install the coordinator\'s version of Anneal here and run "anneal doctor". If it happens again, tell the coordinator.',
  },
  MESSAGE_INVALID: { status: 400, action: 'Update both sides to the same version of Anneal.' },
  BLOB_CORRUPT: {
    status: 502,
    action: 'Anneal repeats the transfer. If this keeps happening, check the disk.',
  },
  FILE_DAMAGED: {
    status: 500,
    action: 'Restore the data folder from a backup, and have the disk checked.',
  },
  PORT_IN_USE: { status: 409, action: 'Stop the other program or choose another port with --port.' },
  DISK_FULL: {
    status: 507,
    action: 'Free some space on the disk that holds the data folder, then try again.',
  },
  DATA_FOLDER_UNUSABLE: { status: 500, action: 'Use --data to choose a data folder that you can write to.' },
  DATA_FOLDER_IN_USE: {
    status: 409,
    action: 'Stop the other Anneal, or choose another data folder with --data.',
  },
  DATABASE_BUSY: {
    status: 503,
    action:
      'End that program, such as a backup, a virus scanner or a database viewer. Anneal goes on by itself when the database is free; what you asked for, ask again.',
  },
  DATABASE_NEWER: { status: 409, action: 'Install the newer version of Anneal that wrote this data folder.' },
  DATABASE_BEHIND: {
    status: 500,
    action:
      'Nothing is trained here. Keep a copy of the data folder as it is, restore the newest backup, and record again what was withdrawn since.',
  },
  DATABASE_MISSING: {
    status: 500,
    action:
      'Restore the data folder from a backup. To begin again without the old data, "anneal start-fresh" sets the old files aside.',
  },
  KEYS_MISSING: {
    status: 500,
    action:
      'Restore the folder "keys" from a backup. Anneal makes no new keys: with them this installation would be somebody else to its federation.',
  },
  KEYS_DIFFER: {
    status: 500,
    action:
      'Put back the folder "keys" and the file "anneal.db" of one and the same installation, or restore a whole backup. Nothing was changed here.',
  },
  DATABASE_DAMAGED: { status: 500, action: 'Restore the data folder from a backup.' },
  MODEL_FILE_INVALID: { status: 400, action: 'Get a new copy of the model or adapter file.' },
  MODEL_UNKNOWN: { status: 404, action: 'Import the base model first, or choose one that is installed.' },
  MODEL_UNSUITABLE: {
    status: 422,
    action:
      'Check how the model takes its pixels (--mean, --std, --range), and which of its values is the embedding (--output).',
  },
  MODEL_LEAKS: {
    status: 422,
    action:
      'Choose a network that was trained to recognise faces or objects, or take its embedding from a later layer. ' +
      'To use this one nevertheless, import it at the command line with --allow-leak.',
  },
  OPERATOR_UNSUPPORTED: { status: 400, action: 'Choose a model without this operator.' },
  SHAPE_MISMATCH: { status: 400, action: 'Use files that belong to the same base model.' },
  UPDATE_REJECTED: { status: 422, action: 'Read the reason. The site takes part again in the next round.' },
  TRAINING_FAILED: {
    status: 500,
    action: 'Read the trainer log in the data folder, and run "anneal doctor".',
  },
  TRAINING_CANCELLED: {
    status: 409,
    action: 'Start the run again when you are ready; finished rounds are kept.',
  },
  DEVICE_UNAVAILABLE: { status: 503, action: 'Run "anneal doctor" to see which devices can train.' },
  RUN_CONFLICT: { status: 409, action: 'Wait for the run in progress, or stop it first.' },
  RUN_UNREADABLE: {
    status: 409,
    action:
      'Use the version of Anneal that wrote it on a copy of the data folder. If it is in progress here, stop it and start a new run.',
  },
  QUORUM_NOT_REACHED: { status: 409, action: 'Wait for more sites, or start a run with a smaller quorum.' },
  CONFIG_INVALID: { status: 400, action: 'Correct this setting.' },
  NOT_FOUND: { status: 404, action: 'Reload the list; the entry may be gone.' },
  NOT_ALLOWED: { status: 403, action: 'Sign in again with the access code that Anneal printed.' },
  SIGN_IN_NEEDED: { status: 403, action: 'Sign in with your name and password.' },
  SIGN_IN_FAILED: {
    status: 403,
    action: 'Check both and try again, or ask an administrator for a new one-time password.',
  },
  TOO_MANY_TRIES: { status: 429, action: 'Wait as long as it says, then try again.' },
  SESSION_LOCKED: { status: 403, action: 'Type your password to go on, or let another person sign in.' },
  PASSWORD_REFUSED: {
    status: 400,
    action: 'Take four or more words that do not belong together, or let a password manager make one.',
  },
  ROLE_MISSING: {
    status: 403,
    action: 'Ask somebody who has the role, or an administrator to give it to you.',
  },
  USER_CONFLICT: { status: 409, action: 'Look at the list of users.' },
  SECOND_PERSON_NEEDED: {
    status: 409,
    action: 'Let another person with the role sign in with an account of their own and confirm it.',
  },
  AGENT_UNREACHABLE: {
    status: 503,
    action: 'Start Anneal with "anneal serve", "anneal site start" or "anneal coordinator start".',
  },
  ELECTRON_MISSING: {
    status: 500,
    action: 'Run "npx anneal serve" and use the screens in your browser instead.',
  },
  CANCELLED: { status: 409, action: 'Start again when you are ready.' },
  INTERNAL: { status: 500, action: 'Report this and attach the log file from the data folder.' },
} as const satisfies Record<string, { status: number; action: string }>;

export type ErrorCode = keyof typeof errorTable;

/** An error as it is shown or sent: never holds a stack, a path outside the data folder or an identity. */
export interface ErrorReport {
  code: ErrorCode;
  message: string;
  action: string;
}

/** Parses a report that comes from another process or from the store. */
export const errorReportSchema: z.ZodType<ErrorReport> = z.object({
  code: z.custom<ErrorCode>((value) => typeof value === 'string' && Object.hasOwn(errorTable, value)),
  message: z.string(),
  action: z.string(),
});

/**
 * An error with one clear sentence for a site data manager.
 * @param code one of {@link errorTable}
 * @param message one plain sentence: what is wrong, naming file, line or setting
 * @param options `action` replaces the table's advice; `cause` is logged, never shown
 */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly action: string;

  constructor(code: ErrorCode, message: string, options: { action?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.action = options.action ?? errorTable[code].action;
  }

  /** An error as another process or another time reported it. */
  static fromReport({ code, message, action }: ErrorReport): AppError {
    return new AppError(code, message, { action });
  }

  get status(): number {
    return errorTable[this.code].status;
  }

  toReport(): ErrorReport {
    return { code: this.code, message: this.message, action: this.action };
  }
}

/** Whether only the connection is missing, so waiting helps. Any other error comes back however often one tries. */
export function isOffline(thrown: unknown): boolean {
  return (
    thrown instanceof AppError && (thrown.code === 'BROKER_UNREACHABLE' || thrown.code === 'BROKER_REFUSED')
  );
}

/** Turns anything thrown into an AppError; system errors get their own codes, the rest `INTERNAL`. */
export function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  const code = (thrown as { code?: unknown } | null)?.code;
  if (code === 'ENOSPC' || code === 'SQLITE_FULL' || code === 'EDQUOT') {
    return new AppError('DISK_FULL', 'The disk that holds the data folder is full.', { cause: thrown });
  }
  if (code === 'EADDRINUSE') {
    const port = (thrown as { port?: unknown }).port;
    return new AppError('PORT_IN_USE', `Another program is using port ${String(port ?? '')}.`, {
      cause: thrown,
    });
  }
  return new AppError('INTERNAL', 'Something went wrong inside Anneal.', { cause: thrown });
}
