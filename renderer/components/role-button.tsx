import { Button, type ButtonProps, Tooltip } from '@mantine/core';
import type { ComponentPropsWithoutRef, MouseEvent } from 'react';
import type { Role } from '../../core/config/roles.ts';
import { useMissingRole } from '../api/me.ts';

interface RoleButtonProps extends ButtonProps, Omit<ComponentPropsWithoutRef<'button'>, keyof ButtonProps> {
  /** One of these is enough. */
  needs: readonly Role[];
}

/** A button for some roles: others see it, and why it is not for them. */
export function RoleButton({ needs, onClick, type, ...button }: RoleButtonProps) {
  const missing = useMissingRole(needs);
  if (missing === null) return <Button {...button} {...(type && { type })} {...(onClick && { onClick })} />;
  // Not `disabled`: a disabled button tells neither a mouse nor a screen reader why.
  const refuse = (event: MouseEvent) => event.preventDefault();
  return (
    <Tooltip label={missing} events={{ hover: true, focus: true, touch: true }}>
      <Button {...button} type="button" data-disabled aria-disabled onClick={refuse} />
    </Tooltip>
  );
}
