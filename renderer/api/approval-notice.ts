/**
 * Tells a person on the desktop that a run asks for approval: once for each contract, and nothing about it. The desktop
 * app shows the notice itself; a browser shows it after the person has allowed it.
 */
import { useEffect } from 'react';
import { desktopBridge } from './bridge.ts';
import { useWaitingContract } from './queries.ts';

const storageKey = 'anneal.noticed-contract';

export type NoticePermission = 'desktop' | 'granted' | 'denied' | 'default' | 'impossible';

export function noticePermission(): NoticePermission {
  if (desktopBridge() !== null) return 'desktop';
  return 'Notification' in window ? Notification.permission : 'impossible';
}

function showNotice(): void {
  const bridge = desktopBridge();
  if (bridge !== null) {
    void bridge.noticeApproval();
    return;
  }
  const notice = new Notification('Anneal', { body: 'A run asks for approval.', tag: storageKey });
  notice.onclick = () => window.focus();
}

/** @param contractSha256 that waits for a person; null when none does */
export function noticeOnce(contractSha256: string | null, storage: Storage, show: () => void): void {
  if (contractSha256 === null || storage.getItem(storageKey) === contractSha256) return;
  storage.setItem(storageKey, contractSha256);
  show();
}

/** @returns the contract that waits for a person */
export function useApprovalNotice(isSite: boolean): string | null {
  const waiting = useWaitingContract(isSite);
  useEffect(() => {
    const permission = noticePermission();
    if (permission === 'desktop' || permission === 'granted') noticeOnce(waiting, localStorage, showNotice);
  }, [waiting]);
  return waiting;
}
