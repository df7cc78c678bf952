import { Group, Pagination, Text } from '@mantine/core';
import { type ReactNode, useState } from 'react';
import { formatCount } from '../format/format.ts';

interface PagedProps<Row> {
  rows: readonly Row[];
  /** Changing it goes back to the first page. */
  resetKey?: string;
  pageSize?: number;
  children: (visible: readonly Row[]) => ReactNode;
}

/** Long lists, one page at a time, so that ten thousand subjects stay quick. */
export function Paged<Row>({ rows, resetKey = '', pageSize = 50, children }: PagedProps<Row>) {
  const [position, setPosition] = useState({ resetKey, page: 1 });
  const pages = Math.max(1, Math.ceil(rows.length / pageSize));
  const page = position.resetKey === resetKey ? Math.min(position.page, pages) : 1;
  const from = (page - 1) * pageSize;
  return (
    <>
      {children(rows.slice(from, from + pageSize))}
      {pages > 1 && (
        <Group justify="space-between" mt="md">
          <Text size="sm" c="dimmed" className="numbers">
            {formatCount(from + 1)}–{formatCount(Math.min(rows.length, from + pageSize))} of{' '}
            {formatCount(rows.length)}
          </Text>
          <Pagination
            total={pages}
            value={page}
            onChange={(next) => setPosition({ resetKey, page: next })}
            getControlProps={(control) => ({ 'aria-label': `${control} page` })}
          />
        </Group>
      )}
    </>
  );
}
