import { Group, Text } from '@mantine/core';

/** The mark: ranks that shrink, line by line. */
export function Logo({ size = 28 }: { size?: number }) {
  return (
    <Group gap="xs" wrap="nowrap">
      <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
        <rect width="32" height="32" rx="8" fill="#0f6f83" />
        <path
          d="M7 9.5h18M9.5 15h13M12 20.5h8M14.5 25h3"
          stroke="#fff"
          strokeWidth="2.6"
          strokeLinecap="round"
        />
      </svg>
      <Text fw={700} fz={size * 0.68} lh={1}>
        Anneal
      </Text>
    </Group>
  );
}
