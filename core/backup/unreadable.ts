import { AppError } from '../shared/errors.ts';

export const unreadable = (message: string, options: { action?: string; cause?: unknown } = {}): AppError =>
  new AppError('BACKUP_UNREADABLE', message, options);
