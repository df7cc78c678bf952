import { Button, Collapse } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { IconChevronDown } from '@tabler/icons-react';
import type { ReactNode } from 'react';

interface DisclosureProps {
  label: string;
  /** Open, and not to be closed. */
  forced?: boolean;
  children: () => ReactNode;
}

/** What few people want to see: made when it is asked for. */
export function Disclosure({ label, forced = false, children }: DisclosureProps) {
  const [wanted, { toggle }] = useDisclosure(false);
  const open = wanted || forced;
  return (
    <div>
      <Button
        variant="subtle"
        size="compact-sm"
        onClick={toggle}
        disabled={forced}
        aria-expanded={open}
        rightSection={<IconChevronDown size={14} aria-hidden style={{ rotate: open ? '180deg' : '0deg' }} />}
      >
        {label}
      </Button>
      <Collapse expanded={open}>{open && children()}</Collapse>
    </div>
  );
}
