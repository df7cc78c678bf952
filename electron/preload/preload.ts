/**
 * The one preload script. It runs sandboxed in a world of its own; only the object below reaches the page.
 * The main process checks every argument again, so nothing here is trusted.
 */
import { contextBridge, ipcRenderer } from 'electron';
import { type AnnealBridge, bridgeChannels, type FileFilter } from './bridge.ts';

const bridge: AnnealBridge = {
  platform: process.platform,
  chooseFolder: () => ipcRenderer.invoke(bridgeChannels.chooseFolder),
  chooseFile: (filters: FileFilter[]) => ipcRenderer.invoke(bridgeChannels.chooseFile, filters),
  chooseNewFile: (filters: FileFilter[]) => ipcRenderer.invoke(bridgeChannels.chooseNewFile, filters),
  noticeApproval: () => ipcRenderer.invoke(bridgeChannels.noticeApproval),
};

contextBridge.exposeInMainWorld('anneal', bridge);
