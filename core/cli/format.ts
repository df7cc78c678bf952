/** Numbers and tables as the terminal shows them. */
import Table from 'cli-table3';

export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

export function formatPercent(share: number | null): string {
  return share === null ? '–' : `${(share * 100).toFixed(1)} %`;
}

export function formatCount(count: number): string {
  return count.toLocaleString('en-GB');
}

export function formatLoss(loss: number | null): string {
  return loss === null ? '–' : loss.toFixed(3);
}

/** A bar of `width` characters, filled to `share` (0…1). */
export function formatBar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return '█'.repeat(filled) + '░'.repeat(width - filled);
}

export function formatTable(head: string[], rows: string[][], rightAligned: number[] = []): string {
  const table = new Table({
    head,
    style: { head: [], border: [], compact: true },
    colAligns: head.map((_, column) => (rightAligned.includes(column) ? 'right' : 'left')),
  });
  table.push(...rows);
  return table.toString();
}
