import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type LinkProxy, startProxy } from '../chaos/proxy.ts';

let proxy: LinkProxy;
let port: number;
let close: () => void;

beforeEach(async () => {
  const accepted = new Set<Socket>();
  const echo = createServer((socket) => {
    accepted.add(socket);
    socket.on('error', () => {}).pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(echo, 'listening');
  ({ port } = echo.address() as AddressInfo);
  proxy = await startProxy(() => port);
  close = () => {
    for (const socket of accepted) socket.destroy();
    echo.close();
  };
});
afterEach(async () => {
  await proxy.close();
  close();
});

async function open(): Promise<Socket> {
  const socket = connect(proxy.port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

async function echoed(socket: Socket, bytes: Buffer): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.write(bytes);
  for (let size = 0; size < bytes.length; ) {
    const [part] = (await once(socket, 'data')) as [Buffer];
    parts.push(part);
    size += part.length;
  }
  return Buffer.concat(parts);
}

test('a good link passes every byte in order, and so does a slow one', async () => {
  const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7) % 251));
  const socket = await open();

  expect((await echoed(socket, bytes)).equals(bytes)).toBe(true);
  proxy.set({ delayMs: 30, bytesPerSecond: 2_000_000 });
  expect((await echoed(socket, bytes)).equals(bytes)).toBe(true);
  socket.destroy();
});

test('nothing passes a black hole, and all of it does afterwards', async () => {
  const socket = await open();
  proxy.set({ isBlackHole: true });
  const coming = echoed(socket, Buffer.from('hello'));
  const isEarly = await Promise.race([coming.then(() => true), sleep(200).then(() => false)]);
  proxy.set({});

  expect(isEarly).toBe(false);
  expect(String(await coming)).toBe('hello');
  socket.destroy();
});

test('connections are reset, and refused until the link is good again', async () => {
  const errorOf = async (socket: Socket) =>
    ((await once(socket, 'error')) as [NodeJS.ErrnoException])[0].code;
  const socket = await open();
  // The proxy has it, too.
  await echoed(socket, Buffer.from('a'));
  const broken = errorOf(socket);
  proxy.reset();
  proxy.set({ refuses: true });
  const refused = errorOf(connect(proxy.port, '127.0.0.1'));

  expect(await broken).toBe('ECONNRESET');
  expect(await refused).toBe('ECONNRESET');
  proxy.set({});
  const again = await open();
  expect(String(await echoed(again, Buffer.from('b')))).toBe('b');
  again.destroy();
});
