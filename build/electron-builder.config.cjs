// electron-builder: Linux (dir, deb, tar.gz, AppImage), Windows (nsis), macOS (dmg).
// ELECTRON_DIST names a folder with an unpacked Electron, so that nothing is downloaded.
// ANNEAL_RELEASE=1 adds what only a real Electron can take: fuses.
'use strict';
const { join } = require('node:path');
const { files, onlyBinariesOf } = require('./package-contents.cjs');
const { findPinnedNode, nodeBinaryName } = require('../electron/node-runtime.ts');

const checkout = join(__dirname, '..');
const nodePath = findPinnedNode(checkout);
if (nodePath === null)
  throw new Error(`npm installed no Node binary for ${process.platform}-${process.arch}`);
const isRelease = process.env.ANNEAL_RELEASE === '1';

module.exports = {
  appId: 'invalid.example.anneal',
  productName: 'Anneal',
  copyright: 'Copyright © the Anneal developers',
  ...(process.env.ELECTRON_DIST ? { electronDist: process.env.ELECTRON_DIST } : {}),
  npmRebuild: false, // Every native module is Node-API and brings its binaries.
  directories: { output: 'dist', buildResources: 'build' },
  files,
  // The agent runs on plain Node, which cannot read app.asar: its sources, its modules and the screens that
  // it may serve itself lie beside it. package.json tells Node that the sources are ES modules.
  asarUnpack: ['core/**', '**/node_modules/**', 'dist/renderer/**', 'package.json'],
  extraResources: [
    { from: nodePath, to: `node/${nodeBinaryName(process.platform)}` },
    { from: join(nodePath, '../../LICENSE'), to: 'node/LICENSE' },
    { from: 'LICENSE', to: 'LICENSE-anneal.txt' },
  ],
  electronLanguages: ['en-US'],
  ...(isRelease
    ? {
        electronFuses: {
          runAsNode: false,
          enableCookieEncryption: true,
          enableNodeOptionsEnvironmentVariable: false,
          enableNodeCliInspectArguments: false,
          enableEmbeddedAsarIntegrityValidation: true,
          onlyLoadAppFromAsar: true,
        },
      }
    : {}),
  linux: {
    target: ['dir', 'deb', 'tar.gz', 'AppImage'],
    icon: 'build/icons',
    category: 'Science',
    synopsis: 'Federated fine-tuning of a face model across hospitals',
    maintainer: 'The Anneal developers <anneal@example.invalid>',
    executableName: 'anneal',
    files: onlyBinariesOf('linux'),
  },
  deb: {
    packageCategory: 'science',
    depends: ['libc6 (>= 2.34)', 'libstdc++6', 'libgtk-3-0', 'libnss3', 'libasound2'],
  },
  win: { target: ['nsis'], icon: 'build/icons/512x512.png', files: onlyBinariesOf('win32') },
  nsis: { oneClick: false, perMachine: false, allowToChangeInstallationDirectory: true },
  mac: {
    target: ['dmg'],
    icon: 'build/icons/1024x1024.png',
    category: 'public.app-category.medical',
    hardenedRuntime: true,
    gatekeeperAssess: false,
    entitlements: 'build/entitlements.mac.plist',
    entitlementsInherit: 'build/entitlements.mac.plist',
    files: onlyBinariesOf('darwin'),
  },
  publish: null, // Nothing is published by a build.
};
