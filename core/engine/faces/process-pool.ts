/** The processes of the face detector: one image at a time each, started as they are needed, again after a fault. */
import { fileURLToPath } from 'node:url';
import type { Face } from '../../data/faces.ts';
import { type Child, startChild } from '../../process/child-process.ts';
import { AppError } from '../../shared/errors.ts';
import { type Logger, silentLogger } from '../../shared/logger.ts';
import type { DeviceKind } from '../engine.ts';
import { type FaceReply, type FaceRequest, faceReplySchema } from './protocol.ts';

export interface FacePool {
  /** @throws AppError INTERNAL when its process ends, or the pool is closed; what the process says */
  find(image: Omit<FaceRequest, 'id'>): Promise<Face[]>;
  close(): Promise<void>;
}

interface Task {
  request: FaceRequest;
  resolve(faces: Face[]): void;
  reject(error: Error): void;
}

interface Member {
  child: Child;
  isReady: boolean;
  task: Task | null;
}

const programFile = fileURLToPath(new URL('./detector-process.ts', import.meta.url));
const closeTimeoutMs = 2_000;
/** How much of one piece of a process's own error output goes to the log. */
const errorOutputLimit = 4_096;

const detectorFailed = (cause: unknown) =>
  new AppError('INTERNAL', 'The face detector could not run.', { cause });

/**
 * Starts the first process and waits until its networks run.
 * @param size processes at most
 * @throws AppError INTERNAL, or what the process says: MODEL_FILE_INVALID | DEVICE_UNAVAILABLE
 */
export async function startFacePool(
  device: DeviceKind,
  size: number,
  logger: Logger = silentLogger,
): Promise<FacePool> {
  const members = new Set<Member>();
  const waiting: Task[] = [];
  let lastId = 0;
  let closed = false;
  const starting = Promise.withResolvers<void>();

  function start(): void {
    const child = startChild(process.execPath, [programFile, device], { lifeline: 'ipc', ownGroup: false });
    const member: Member = { child, isReady: false, task: null };
    members.add(member);
    child.node.stderr?.setEncoding('utf8').on('data', (text: string) => {
      logger.warn(
        { event: 'faces.error_output', output: text.slice(0, errorOutputLimit) },
        'The face detector reported a problem',
      );
    });
    child.node.on('message', (message: unknown) => hear(member, message));
    void child.ended.then(({ startError }) => lose(member, startError ?? new Error('its process ended')));
  }

  function hear(member: Member, message: unknown): void {
    const parsed = faceReplySchema.safeParse(message);
    if (!parsed.success) {
      lose(member, parsed.error);
      return;
    }
    const reply = parsed.data;
    if (reply.type === 'ready') {
      member.isReady = true;
      starting.resolve();
    } else if (reply.id === null) {
      lose(member, AppError.fromReport((reply as FaceReply & { type: 'failed' }).error));
    } else if (member.task?.request.id === reply.id) {
      const { task } = member;
      member.task = null;
      if (reply.type === 'faces') task.resolve(reply.faces);
      else task.reject(AppError.fromReport(reply.error));
    }
    advance();
  }

  /** Its image fails, and the others go on with another process. */
  function lose(member: Member, cause: unknown): void {
    if (!members.delete(member)) return;
    void member.child.stop(closeTimeoutMs);
    const error = cause instanceof AppError ? cause : detectorFailed(cause);
    starting.reject(error);
    member.task?.reject(error);
    // What could not even start would not start the next time.
    if (!member.isReady && members.size === 0) for (const task of waiting.splice(0)) task.reject(error);
    advance();
  }

  function advance(): void {
    if (closed) return;
    for (const member of members) {
      if (waiting.length === 0) return;
      if (!member.isReady || member.task !== null) continue;
      member.task = waiting.shift()!;
      member.child.node.send(member.task.request, (error) => {
        if (error) lose(member, error);
      });
    }
    const starters = [...members].filter(({ isReady }) => !isReady).length;
    if (waiting.length > starters && members.size < size) start();
  }

  async function close(): Promise<void> {
    closed = true;
    const error = detectorFailed(new Error('the face detector was closed'));
    for (const task of waiting.splice(0)) task.reject(error);
    const all = [...members];
    members.clear();
    for (const { task } of all) task?.reject(error);
    await Promise.all(all.map(({ child }) => child.stop(closeTimeoutMs)));
  }

  start();
  try {
    await starting.promise;
  } catch (thrown) {
    await close();
    throw thrown;
  }
  return {
    find: (image) =>
      new Promise((resolve, reject) => {
        if (closed) {
          reject(detectorFailed(new Error('the face detector was closed')));
          return;
        }
        waiting.push({ request: { id: ++lastId, ...image }, resolve, reject });
        advance();
      }),
    close,
  };
}
