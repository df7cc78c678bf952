import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { satisfies } from 'semver';
import { describe, expect, it } from 'vitest';
import { lockFile, quietEngines } from '../../build/lock-engines.ts';

const text = readFileSync(lockFile, 'utf8');

describe('package-lock.json', () => {
  it('makes npm warn of no package that runs on the pinned Node; else run "npm run lock:engines"', () => {
    expect(text).toBe(quietEngines(text, process.version));
  });

  it('keeps what a package asks for that the pinned Node is not', () => {
    const lock = (node: string) =>
      `${JSON.stringify({ packages: { '': { engines: { node: '>=20' } }, 'node_modules/a': { engines: { node } } } }, null, 2)}\n`;

    expect(quietEngines(lock('>=26'), 'v24.21.0')).toBe(lock('>=26'));
    expect(quietEngines(lock('>=18'), 'v24.21.0')).toBe(lock('>=18'));
    expect(JSON.parse(quietEngines(lock('>=22'), 'v24.21.0'))).toMatchObject({
      packages: { 'node_modules/a': {} },
    });
    expect(quietEngines(lock('>=22'), 'v24.21.0')).not.toContain('>=22');
  });

  it('installs only packages that run on the pinned Node', () => {
    const unfit = Object.keys(JSON.parse(text).packages)
      .map((folder) => join(folder, 'package.json'))
      .filter((file) => file !== 'package.json' && existsSync(file))
      .filter((file) => {
        const wanted: unknown = JSON.parse(readFileSync(file, 'utf8')).engines?.node;
        return typeof wanted === 'string' && !satisfies(process.version, wanted);
      });

    expect(unfit).toEqual([]);
  });
});
